INSERT INTO shop.products (id, name, description, price_cents) VALUES
    (1, 'Cross-peen hammer', 'One kilogram, ash handle. Draws out a bar in no time.', 4900),
    (2, 'Wolf-jaw tongs', 'Hold flat, round and square stock from 6 to 16 mm.', 3800),
    (3, 'Anvil', 'Sixty kilograms of forged steel with a face hardened to 56 HRC.', 74900),
    (4, 'Leather apron', 'Split cowhide, crossed back straps, one pocket for chalk.', 6500),
    (5, 'Coke, 25 kg', 'Washed breeze for the forge, little clinker.', 2100),
    (6, 'Wire brush', 'For scale. Wears out before the smith does.', 900);
