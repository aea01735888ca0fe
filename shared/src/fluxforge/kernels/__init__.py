"""Pure kernels: books, features, bars. No clock, no I/O, no logging, no settings object."""
