"""Every parser under a fuzzer that sees which branches a change of bytes opens: `make fuzz`, by atheris.

It begins where the property tests do (`bad_input/corpus/parsers.jsonl`, the exchanges of `tests/recordings`), keeps
what opened a branch under `.fuzz/`, and begins there the next time. What a parser raised that it may not is a file
`.fuzz/NAME.crash-…`: it goes into the corpus, or a test of its own, with the mending.
"""
