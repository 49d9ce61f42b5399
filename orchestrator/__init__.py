"""What happens between trainings: steps, rounds, the store, engines, tracking, the terminal."""
