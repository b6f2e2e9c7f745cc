"""The cansight_ev: a simulated electric vehicle on two classic CAN buses and one CAN FD bus."""
