"""The vocabulary that method files speak: lift, moments, descend, check."""
