//! Which part of a swarm this process has: as asked for, or as the array job says that it is one of.

use std::str::FromStr;

/// Part `index` (from 0) of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shard {
    pub(super) index: u64,
    pub(super) count: u64,
}

impl Shard {
    pub(super) const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Whether a seed is in this part.
    pub(super) const fn has(self, seed: u64) -> bool {
        seed % self.count == self.index
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no shard: I/N is wanted, with I from 0 to N - 1");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let (index, count) = (index.parse().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
        if index < count { Ok(Shard { index, count }) } else { Err(wrong()) }
    }
}

/// What the array job says: Slurm, an indexed Kubernetes job, AWS Batch. `get` reads a variable.
pub(super) fn of_array_job(get: impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let number = |name: &str| -> Result<Option<u64>, String> {
        let Some(text) = get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("{name} is {text:?}, which is no number"))
    };
    if let Some(id) = number("SLURM_ARRAY_TASK_ID")? {
        let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let step = number("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        let index = id.checked_sub(first).ok_or("SLURM_ARRAY_TASK_ID is below SLURM_ARRAY_TASK_MIN")? / step;
        return whole("SLURM_ARRAY_TASK_ID", index, "SLURM_ARRAY_TASK_COUNT", number("SLURM_ARRAY_TASK_COUNT")?);
    }
    for (name, of) in
        [("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"), ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE")]
    {
        if let Some(index) = number(name)? {
            return whole(name, index, of, number(of)?);
        }
    }
    Ok(Shard::WHOLE)
}

fn whole(name: &str, index: u64, of: &str, count: Option<u64>) -> Result<Shard, String> {
    match count {
        Some(count) if index < count => Ok(Shard { index, count }),
        Some(count) => Err(format!("{name} makes this part {index}, but {of} is {count}")),
        None => Err(format!("{name} is set, but not {of}: say which part this is with --shard I/N")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(variables: &[(&str, &str)]) -> Result<Shard, String> {
        of_array_job(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn every_seed_is_in_one_shard() {
        for seed in 0..50 {
            let in_shards = (0..4).filter(|index| Shard { index: *index, count: 4 }.has(seed)).count();
            assert_eq!(in_shards, 1);
        }
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, count: 4 }));
        for wrong in ["4/4", "1", "a/b", "/", "-1/2", "0/0"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn array_jobs_say_which_part_they_are() {
        assert_eq!(job(&[]), Ok(Shard::WHOLE));
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "7"),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
        ];
        assert_eq!(job(&slurm), Ok(Shard { index: 3, count: 4 }));
        assert_eq!(job(&[("JOB_COMPLETION_INDEX", "2"), ("JOB_COMPLETIONS", "5")]), Ok(Shard { index: 2, count: 5 }));
        assert!(job(&[("JOB_COMPLETION_INDEX", "2")]).unwrap_err().contains("--shard"));
        assert!(job(&[("JOB_COMPLETION_INDEX", "x")]).is_err());
        assert!(job(&[("AWS_BATCH_JOB_ARRAY_INDEX", "5"), ("AWS_BATCH_JOB_ARRAY_SIZE", "5")]).is_err());
    }
}
