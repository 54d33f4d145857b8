"""What a person wrote: the language of backward equations, what each line truly is worth, and what a wrong one is."""
