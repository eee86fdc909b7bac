"""What is a better model worth to me? From one participant's data to a bid in money.

Three steps: train on growing subsets (`learning_curve`), fit error against examples (`fit`), and put the fit in
money (`worth`), as a row for bids.csv or a file of terms (`terms`).
"""
