"A model that learns how a world works and plans in it: networks, losses, worlds with exact answers, training."
