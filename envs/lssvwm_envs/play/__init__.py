"""Playing a world model by hand: `lssvwm play`, in a browser."""
