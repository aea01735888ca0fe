"""`fluxforge dashboard`: a page that shows books, candles, features and the pipeline's health while they happen.

    log ─ tail (thread) ─┐
                         ├─▶ board: a few minutes of each market ─▶ a session for each browser ─ WebSocket ─▶ page
    lake ─ shelf (thread)┘

A session sends the newest state, at most ten times a second, and never queues: what a slow browser missed is conflated
into the next message, and nobody waits for it.
"""
