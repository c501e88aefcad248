"""What is wrong with the data, by how much it spoils the score, and a plan that fixes it."""
