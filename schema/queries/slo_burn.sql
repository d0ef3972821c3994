-- Objective of 99.9 % over thirty days: what is left of the budget, and how fast it burns
SELECT name, source, availability_percent, budget_left_percent, burn_5m, burn_1h, burn_6h, burn_3d
FROM slo_burn(objective = 99.9, days = 30)
LIMIT 20
