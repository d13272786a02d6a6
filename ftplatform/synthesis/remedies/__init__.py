"""What to do about inputs that look made up: seed the teacher with real ones, close the measured gaps, mix in real rows."""
