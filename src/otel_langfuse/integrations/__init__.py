"""Other libraries' calls as observations: one library, one room. Each is loaded only by who asks for it."""
