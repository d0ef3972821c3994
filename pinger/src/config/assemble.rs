//! Settings of several places to one run: precedence, defaults, and the checks across settings.

mod probe;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use self::probe::Layers;
use super::value::{BATCH_DEFAULT, BATCH_FLOOD, DATA_DIR_DEFAULT};
use super::{
    Asked, DestinationSpec, Format, RunOptions, Settings, Source, SpoolOptions, StoreChoice,
    StoreOptions,
};
use crate::destination::{Form, MAX_DESTINATIONS, Written, too_many};
use crate::mistake::{Mistake, Mistakes, counted};
use crate::packet::{PAYLOADS_MAX, payload_key};

/// One run out of what the command line, the config file and the command itself set.
///
/// `own` holds the defaults of the command where they differ from those of a run. Destinations of
/// the command line replace those of the file. `terminal` tells whether standard output is one.
///
/// # Errors
///
/// All mistakes that show only when settings meet: no destination, too many of them, an id given
/// twice or to more than one, a timeout with too many probes in flight, a protocol without what it
/// needs or with what it has no use for, too many different payloads.
pub fn assemble(
    command_line: &Settings,
    file: &Settings,
    own: &Settings,
    terminal: bool,
) -> Result<RunOptions, Mistakes> {
    let layers = [command_line, file, own];
    let mut mistakes = Mistakes::default();
    let destinations = destinations(&layers, &mut mistakes);
    mistakes.none_or_all()?;
    let flood = pick(&layers, |s| s.flood).unwrap_or(false);
    let batch_default = if flood { BATCH_FLOOD } else { BATCH_DEFAULT };
    let format_default = if terminal {
        Format::Live
    } else {
        Format::Plain
    };
    Ok(RunOptions {
        interface: pick(&layers, |s| s.interface.clone()),
        destinations,
        family: pick(&layers, |s| s.family),
        count: pick(&layers, |s| s.count),
        duration: pick(&layers, |s| s.duration),
        flood,
        batch: pick(&layers, |s| s.batch).unwrap_or(batch_default),
        verify: pick(&layers, |s| s.verify).unwrap_or(true),
        cpu: pick(&layers, |s| s.cpu),
        source: Source {
            id: pick(&layers, |s| s.source_id).unwrap_or_default(),
            location: pick(&layers, |s| s.source_location).unwrap_or_default(),
            host: pick(&layers, |s| s.source_host).unwrap_or_default(),
            sourceid: pick(&layers, |s| s.source_sourceid).unwrap_or_default(),
        },
        store: store_options(&layers),
        format: pick(&layers, |s| s.format).unwrap_or(format_default),
        picture: pick(&layers, |s| s.picture.clone()),
        kernel_log: pick(&layers, |s| s.kernel_log).unwrap_or(false),
        trace: None,
    })
}

/// Where the store is and how results wait for it, as the first of `layers` that says so has it.
pub fn store_options(layers: &[&Settings]) -> StoreOptions {
    StoreOptions {
        choice: pick(layers, |s| s.store.clone()).unwrap_or(StoreChoice::Embedded),
        port: pick(layers, |s| s.store_port),
        password_file: pick(layers, |s| s.store_password_file.clone()),
        data_dir: pick(layers, |s| s.data_dir.clone())
            .unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT)),
        spool: spool_options(layers),
    }
}

fn spool_options(layers: &[&Settings]) -> SpoolOptions {
    let default = SpoolOptions::default();
    let place = pick(layers, |s| s.spool_place).unwrap_or(default.place);
    SpoolOptions {
        place,
        bytes_max: pick(layers, |s| s.spool_bytes_max).unwrap_or(place.bytes_default()),
        age_max_ns: pick(layers, |s| s.spool_age_max_ns).unwrap_or(default.age_max_ns),
        drop: pick(layers, |s| s.spool_drop).unwrap_or(default.drop),
        sync: pick(layers, |s| s.spool_sync).unwrap_or(default.sync),
    }
}

fn pick<T>(layers: &[&Settings], field: impl Fn(&Settings) -> Option<T>) -> Option<T> {
    layers.iter().find_map(|settings| field(settings))
}

/// Everything to probe, with all gaps filled.
fn destinations(layers: &[&Settings; 3], mistakes: &mut Mistakes) -> Vec<DestinationSpec> {
    let [command_line, file, own] = layers;
    let asked = if command_line.destinations.is_empty() {
        &file.destinations
    } else {
        &command_line.destinations
    };
    if asked.is_empty() {
        mistakes.0.push(Mistake::new(
            "there is nothing to probe: no destination is given",
            "Name one or more on the command line, for example: pinger run 192.0.2.1\n\
             or in a list (-f FILE) or a config file (--config FILE).",
        ));
    }
    let layers = Layers {
        command_line,
        file,
        own,
    };
    // Settings that no destination overrides are reported once, not once a destination.
    let general_mistake = layers.general().err();
    mistakes.0.extend(
        general_mistake
            .clone()
            .map(|mistake| match file.places.get("timeout") {
                Some(place) if command_line.probe.timeout_ns.is_none() => mistake.at(place),
                _ => mistake,
            }),
    );

    let mut count_total = 0;
    let mut first_with_id = HashMap::new();
    let mut specs = Vec::with_capacity(asked.len());
    for asked in asked {
        let mut complain = |mistake: Mistake| {
            mistakes.0.push(match &asked.place {
                Some(place) => mistake.at(place),
                None => mistake,
            });
        };
        let written = match Written::parse(&asked.host) {
            Ok(written) => written,
            Err(mistake) => {
                complain(mistake);
                continue;
            }
        };
        count_total += written.form.count() as u128;
        check_id(asked, &written.form, &mut first_with_id).unwrap_or_else(&mut complain);
        match layers.spec(asked, &written) {
            Ok(spec) => specs.push(spec),
            Err(mistake) if Some(&mistake) == general_mistake.as_ref() => {}
            Err(mistake) => complain(mistake),
        }
    }
    if count_total > MAX_DESTINATIONS as u128 {
        mistakes
            .0
            .push(too_many("the destinations together are", count_total));
    }
    mistakes.0.extend(layers.useless(&specs));
    mistakes.0.extend(check_payloads(&specs).err());
    specs
}

/// The kernel program compares answers with so many payloads at most.
fn check_payloads(specs: &[DestinationSpec]) -> Result<(), Mistake> {
    let distinct: HashSet<_> = specs
        .iter()
        .map(|spec| payload_key(spec.data.as_deref(), spec.size))
        .collect();
    if distinct.len() <= PAYLOADS_MAX {
        return Ok(());
    }
    Err(Mistake::new(
        format!(
            "the destinations have {}, too many for one run",
            counted(distinct.len() as u128, "different payload")
        ),
        format!(
            "One run can have {} at most. Payloads differ by data and by size, those without\n\
             data never. Give more destinations the same, or split them over several probers.",
            counted(PAYLOADS_MAX as u128, "payload")
        ),
    ))
}

/// An id belongs to one destination only.
fn check_id<'a>(
    asked: &'a Asked,
    form: &Form,
    first_with_id: &mut HashMap<u64, &'a str>,
) -> Result<(), Mistake> {
    let Some(id) = asked.id else { return Ok(()) };
    if form.count() > 1 {
        return Err(Mistake::new(
            format!(
                "id {id} is given to {}",
                counted(form.count() as u128, "address")
            ),
            "An id names one destination. Leave it out: each address then gets an id of its own\n\
             that never changes.",
        ));
    }
    match first_with_id.insert(id, &asked.host) {
        None => Ok(()),
        Some(first) => Err(Mistake::new(
            format!(
                "id {id} is given to {:?}, but {first:?} has it already",
                asked.host
            ),
            "Give each destination its own id, or leave ids out.",
        )),
    }
}

#[cfg(test)]
mod tests;
