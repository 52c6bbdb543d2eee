//! Random numbers that are the same everywhere.

/// xoshiro256++ (Blackman and Vigna 2021), seeded by SplitMix64.
pub struct Draw {
    state: [u64; 4],
    /// The second of a pair of normal numbers.
    spare: Option<f64>,
}

impl Draw {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Draw {
        let mut at = seed;
        let state = std::array::from_fn(|_| {
            at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = at;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        });
        Draw { state, spare: None }
    }

    fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in (0, 1).
    pub fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// How many of `rows` are, each with the probability `share`, which is
    /// below a half (by inversion of the cumulated probabilities).
    pub fn binomial(&mut self, rows: u64, share: f64) -> u64 {
        let odds = share / (1.0 - share);
        let mut probability = libm::exp(rows as f64 * libm::log1p(-share));
        assert!(
            probability > 0.0,
            "{rows} rows at {share} are too many for this generator"
        );
        let (mut left, mut count) = (self.uniform(), 0);
        while left > probability && count < rows {
            left -= probability;
            probability *= (rows - count) as f64 / (count + 1) as f64 * odds;
            count += 1;
        }
        count
    }

    /// Standard normal (Box and Muller 1958, Marsaglia's polar form).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let square = x * x + y * y;
            if square < 1.0 {
                let scale = (-2.0 * libm::log(square) / square).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }
}
