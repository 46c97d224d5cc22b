"""Files that are whole or absent, locks, and the cache: where everything lies in it, and how it is emptied."""
