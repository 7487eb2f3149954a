//! [`Shares`]: the division of a bounded resource (connections, blocks, pipes) among the apps.
//!
//! Half of it is divided among the apps: what each is guaranteed. The other half is a pool for
//! all of them, first come, first served. So an app that takes all that it can get leaves every
//! other one what that is guaranteed, and an app that is busy alone has more than half. One app
//! has all.

use std::collections::BTreeMap;

use super::ids::AppId;

/// What the apps have: see the [module](self).
#[derive(Debug)]
pub struct Shares {
    limit: usize,
    apps: usize,
    /// What the apps have, all together.
    total: usize,
    /// What they have beyond what each is guaranteed.
    borrowed: usize,
    taken: BTreeMap<AppId, usize>,
}

impl Shares {
    /// All of `limit` belongs to one app.
    pub fn new(limit: usize) -> Shares {
        Shares {
            limit,
            apps: 1,
            total: 0,
            borrowed: 0,
            taken: BTreeMap::new(),
        }
    }

    /// Divides it among so many apps. What they have, they keep.
    pub fn set_apps(&mut self, apps: usize) {
        self.apps = apps.max(1);
        let guaranteed = self.guaranteed();
        let borrowed = self
            .taken
            .values()
            .map(|taken| taken.saturating_sub(guaranteed));
        self.borrowed = borrowed.sum();
    }

    /// Replaces how much there is. What the apps have, they keep.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.set_apps(self.apps);
    }

    /// What an app may always have, unless others had it before there were so many apps.
    pub fn guaranteed(&self) -> usize {
        match self.apps {
            1 => self.limit,
            apps => self.limit / 2 / apps,
        }
    }

    /// Whether an app may have one more.
    pub fn has_room(&self, app: AppId) -> bool {
        let guaranteed = self.guaranteed();
        let pooled = self.limit - guaranteed * self.apps;
        let has_guaranteed = self.taken(app) < guaranteed;
        self.total < self.limit && (has_guaranteed || self.borrowed < pooled)
    }

    /// Whether nothing is left for any app.
    pub fn is_exhausted(&self) -> bool {
        self.total >= self.limit
    }

    /// Counts one more for an app.
    pub fn take(&mut self, app: AppId) {
        let guaranteed = self.guaranteed();
        let taken = self.taken.entry(app).or_default();
        *taken += 1;
        self.total += 1;
        self.borrowed += usize::from(*taken > guaranteed);
    }

    /// Counts one less for an app.
    pub fn give_back(&mut self, app: AppId) {
        let guaranteed = self.guaranteed();
        let Some(taken) = self.taken.get_mut(&app) else {
            return;
        };
        self.borrowed -= usize::from(*taken > guaranteed);
        self.total -= 1;
        *taken -= 1;
        if *taken == 0 {
            self.taken.remove(&app);
        }
    }

    fn taken(&self, app: AppId) -> usize {
        self.taken.get(&app).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORM: AppId = AppId(1);
    const QUIET: AppId = AppId(2);

    fn take_all(shares: &mut Shares, app: AppId) -> usize {
        let mut count = 0;
        while shares.has_room(app) {
            shares.take(app);
            count += 1;
        }
        count
    }

    #[test]
    fn one_app_has_all_and_of_several_none_takes_the_part_of_another() {
        let mut shares = Shares::new(100);
        assert_eq!(take_all(&mut shares, STORM), 100);
        let mut shares = Shares::new(100);
        shares.set_apps(5);
        assert_eq!(
            take_all(&mut shares, STORM),
            60,
            "what is guaranteed, and the pool"
        );
        for app in [QUIET, AppId(3), AppId(4), AppId(5)] {
            assert_eq!(take_all(&mut shares, app), 10, "{app:?}");
        }
        assert!(shares.is_exhausted());
    }

    #[test]
    fn what_an_app_had_before_there_was_another_it_gives_back_first() {
        let mut shares = Shares::new(10);
        take_all(&mut shares, STORM);
        shares.set_apps(2);
        assert!(!shares.has_room(QUIET), "there is none");
        shares.give_back(STORM);
        assert!(!shares.has_room(STORM) && shares.has_room(QUIET));
        shares.take(QUIET);
        shares.give_back(STORM);
        assert!(!shares.has_room(STORM) && shares.has_room(QUIET));
    }

    #[test]
    fn what_the_apps_have_above_a_lower_limit_they_give_back_first() {
        let mut shares = Shares::new(100);
        shares.set_apps(2);
        assert_eq!(take_all(&mut shares, STORM), 75);
        shares.set_limit(80);
        assert_eq!(take_all(&mut shares, QUIET), 5, "up to the limit");
        for _ in 0..15 {
            shares.give_back(STORM);
            assert!(!shares.has_room(STORM));
        }
        assert_eq!(take_all(&mut shares, QUIET), 15, "what is guaranteed");
    }

    #[test]
    fn where_there_is_less_than_apps_it_is_for_whoever_comes_first() {
        let mut shares = Shares::new(32);
        shares.set_apps(500);
        assert_eq!(take_all(&mut shares, STORM), 32);
    }

    proptest! {
        /// Whatever is taken and given back, the limit holds, and each app that has been
        /// there from the start can have what is guaranteed.
        #[test]
        fn no_app_is_kept_from_what_is_guaranteed(
            limit in 1..60usize,
            apps in 1..6u32,
            steps in prop::collection::vec((0..6u32, any::<bool>()), 0..200),
        ) {
            let mut shares = Shares::new(limit);
            shares.set_apps(apps as usize);
            let mut taken = vec![0; apps as usize];
            for (app, takes) in steps {
                let app = app % apps;
                let (id, count) = (AppId(app), &mut taken[app as usize]);
                if takes && shares.has_room(id) {
                    shares.take(id);
                    *count += 1;
                } else if !takes && *count > 0 {
                    shares.give_back(id);
                    *count -= 1;
                }
                prop_assert!(taken.iter().sum::<usize>() <= limit);
                for (app, count) in (0..apps).zip(&taken) {
                    let may_have_it = *count >= shares.guaranteed() || shares.has_room(AppId(app));
                    prop_assert!(may_have_it, "{app} of {taken:?}");
                }
            }
        }
    }
}
