"""What more labels would bring, and what those there are have saved."""
