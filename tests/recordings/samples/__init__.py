"""Small valid files of every format, written in its published layout: for tests of readers, the fuzzer, the gallery."""
