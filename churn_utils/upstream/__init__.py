"""What the company's systems send month by month: the simulation, or a folder of deliveries."""
