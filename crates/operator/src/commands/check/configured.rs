//! Settings read as a program would read them, and put together as it would.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kingpost_connectors::{NoCalls, source, target};
use kingpost_scheme::Scheme;
use kingpost_settings::{
    Environment, KingdeeSettings, Problems, Program, WdtSettings, both, extractor, loader, operator,
    transformer, warnings,
};

/// Variables that look like settings and are none, a line each, and what is wrong with the settings of some programs.
pub(super) fn read(
    programs: &[Program],
    environment: &Environment,
    schemes: &[Scheme],
) -> (String, Result<(), Problems>) {
    if programs.is_empty() {
        return (String::new(), Ok(()));
    }
    let accounts: BTreeSet<Option<&str>> = schemes.iter().map(|scheme| scheme.account.as_deref()).collect();
    let accounts: Vec<Option<&str>> = accounts.into_iter().collect();
    let notes =
        warnings(environment, &accounts).iter().map(|warning| format!("warning: {warning}\n")).collect();
    let mut problems = Problems::new();
    for program in programs {
        if let Err(wrong) = of_program(*program, environment, &accounts, schemes) {
            problems = problems.merge(wrong);
        }
    }
    (notes, problems.or(()))
}

fn of_program(
    program: Program,
    environment: &Environment,
    accounts: &[Option<&str>],
    schemes: &[Scheme],
) -> Result<(), Problems> {
    match program {
        Program::Extractor => sources(&extractor(environment, accounts)?.wdt, schemes),
        Program::Transformer => transformer(environment).map(|_| ()),
        Program::Loader => targets(&loader(environment, accounts)?.kingdee, schemes),
        Program::Operator => {
            let settings = operator(environment, accounts)?;
            both(targets(&settings.kingdee, schemes), sources(&settings.wdt, schemes)).map(|_| ())
        }
    }
}

fn sources(accounts: &BTreeMap<Option<String>, WdtSettings>, schemes: &[Scheme]) -> Result<(), Problems> {
    let clients = schemes
        .iter()
        .filter_map(|scheme| source(scheme, accounts.get(&scheme.account)?, Arc::new(NoCalls)).err());
    clients.fold(Problems::new(), Problems::merge).or(())
}

fn targets(accounts: &BTreeMap<Option<String>, KingdeeSettings>, schemes: &[Scheme]) -> Result<(), Problems> {
    let clients = schemes
        .iter()
        .filter_map(|scheme| target(scheme, accounts.get(&scheme.account)?, Arc::new(NoCalls)).err());
    clients.fold(Problems::new(), Problems::merge).or(())
}
