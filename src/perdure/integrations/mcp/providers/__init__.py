"""Where quotes come from: what is packaged with perdure, Yahoo Finance, the exchanges that ccxt knows, or a plugin."""
