"""Features across markets: one asset's venues beside each other, and the returns of the largest assets beside all.

config    parameters, and which markets are markets of the same thing
kernel    feature rows in, rows across markets out
history   the same over feature rows at rest
table     the columns, their definitions and the lake's schema
"""
