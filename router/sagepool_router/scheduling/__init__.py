"""Who is placed where and when: pure, without IO, clocks or randomness of its own."""
