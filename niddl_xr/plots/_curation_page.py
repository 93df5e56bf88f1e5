"""What a curator's page does by itself: keys, and a banner when the kernel does not answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import param
from panel.reactive import ReactiveHTML

PING_MS = 2000
SILENCE_MS = 6000  # longer than any action takes: what is done now is not recorded

_RENDER = f"""
const panel = view.parent?.el ?? banner
let host = panel
while (host.getRootNode() instanceof ShadowRoot) host = host.getRootNode().host
// JupyterLab's own shortcuts would act on the notebook (n and p move about, d d deletes a cell).
host.setAttribute("data-lm-suppress-shortcuts", "true")
if (!host.hasAttribute("tabindex")) host.tabIndex = -1
host.style.outline = "none"
state.host = host
state.press = (event) => {{
  const field = event.composedPath()[0]
  if (["INPUT", "TEXTAREA", "SELECT"].includes(field.tagName)) return
  if (event.ctrlKey || event.metaKey || event.altKey || !data.keys.includes(event.key)) return
  event.preventDefault()
  event.stopPropagation()
  state.pressed = (state.pressed ?? 0) + 1
  data.pressed = [...data.pressed, [state.pressed, event.key]].slice(-50)
}}
state.focus = (event) => {{
  const field = event.composedPath()[0]
  if (!["INPUT", "TEXTAREA", "SELECT", "BUTTON"].includes(field.tagName)) host.focus({{preventScroll: true}})
}}
panel.addEventListener("keydown", state.press)
if (host !== panel) host.addEventListener("keydown", state.press)
panel.addEventListener("pointerdown", state.focus, true)
state.sent = Date.now()
data.ping = state.sent
state.timer = setInterval(() => {{
  const silent = data.pong < state.sent
  banner.style.display = silent && Date.now() - state.sent > {SILENCE_MS} ? "block" : "none"
  if (!silent) {{
    state.sent = Date.now()
    data.ping = state.sent
  }}
}}, {PING_MS})
"""
_REMOVE = """
clearInterval(state.timer)
state.host?.removeEventListener("keydown", state.press)
"""


class Page(ReactiveHTML):
    """Hears keys wherever the mouse was last pressed in the app, and asks the kernel every two seconds if it is there.

    While the kernel computes something else, or is gone, changes reach no log; a red banner says so after six seconds.
    """

    keys = param.List(doc="What is listened to, as KeyboardEvent.key names it.")
    pressed = param.List(doc="Pairs of a number, counting up, and a key.")
    ping = param.Number(default=0)
    pong = param.Number(default=0)

    _template = """
<div id="banner" role="alert" style="display:none; background:#B00020; color:white; padding:8px 12px; font-weight:bold">
The kernel does not answer: it is busy, or gone. What you do now is not recorded.
Edits in the list are on the disk.
</div>
"""
    _scripts: ClassVar[dict[str, str | list[str]]] = {"render": _RENDER, "remove": _REMOVE}

    def __init__(self, actions: dict[str, Callable[[], Any]], **options: Any) -> None:
        super().__init__(keys=list(actions), sizing_mode="stretch_width", **options)  # type: ignore[no-untyped-call]
        self._actions = actions
        self._heard = 0
        self.param.watch(self._answer, "ping")
        self.param.watch(self._act, "pressed")

    def _answer(self, event: Any) -> None:
        self.pong = event.new

    def _act(self, event: Any) -> None:
        for number, key in event.new:
            if number > self._heard:
                self._heard = number
                self._actions[key]()
