"""The rehearsal of a move to another base model: what it would cost and what it would lose, before anybody has to move."""
