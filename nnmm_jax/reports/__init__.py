"""What a reader takes home: breeding values, variance shares, effects, figures."""
