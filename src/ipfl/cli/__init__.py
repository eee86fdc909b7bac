"""The command line: arguments in, one sentence per error, documented exit codes."""
