"""Keeping a run: its folder, its states, its books and its members; and looking after one that was left."""
