"""Access control: who may call a route, and how often.

Read in this order:

    dependencies.py   the FastAPI dependencies of the routes, and the Guard behind them
    sessions.py       login sessions of the studio
    passwords.py      password hashes of local accounts
    rate_limits.py    request rates, address lockout, login delays
"""
