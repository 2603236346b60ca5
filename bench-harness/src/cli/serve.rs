//! `serve`: the service of a workload file alone, for clients of one's own.

use std::env::VarError;
use std::io;
use std::net::ToSocketAddrs;

use forebay::net::Address;
use serde_json::json;

use super::ServeArgs;
use super::output::{Sink, complain};
use crate::exit::Exit;
use crate::server::{self, DESCRIPTORS_ASIDE, Places, ServerSpec, Service, TOKEN_VARIABLE};
use crate::subject::CellError;
use crate::workload_file::{LoadOptions, LoadedWorkload, Override, load};

pub(super) fn serve(args: &ServeArgs) -> io::Result<Exit> {
    let mut overrides = args.overrides.clone();
    // Nobody is compared with: what peers cannot do is no reason not to serve.
    overrides.push(Override { path: "peers".to_owned(), value: json!([]) });
    let options = LoadOptions { overrides, ..LoadOptions::default() };
    let workload = match load(&args.file, &options) {
        Ok(workload) => workload,
        Err(report) => {
            complain(&report.to_string());
            return Ok(Exit::InvalidFile);
        }
    };
    match start(args, &workload) {
        Ok((serving, wanted)) => {
            let address = serving.address().clone();
            let admin = serving.admin();
            serving.until_signal(|| {
                if let Some(admin) = admin {
                    Sink::Stdout.write(&format!("admin {admin}"))?;
                }
                // The last line: who waits for it has seen them all.
                Sink::Stdout.write(&format!("ready {address}"))
            })?;
            if let Address::Unix(path) = wanted {
                // The system leaves it there, and nobody could listen on it again. That of a socket
                // that was passed belongs to whoever passed it.
                std::fs::remove_file(path)?;
            }
            Ok(Exit::Ok)
        }
        Err(Refusal(message, exit)) => {
            complain(&format!("error: {message}"));
            Ok(exit)
        }
    }
}

/// Why nothing is served, and how the program ends.
struct Refusal(String, Exit);

impl Refusal {
    fn usage(message: String) -> Self {
        Self(message, Exit::Usage)
    }
}

impl From<CellError> for Refusal {
    fn from(error: CellError) -> Self {
        let exit = match error {
            CellError::HostUnfit(_) => Exit::HostUnfit,
            CellError::NotBuilt(_) => Exit::Usage,
            _ => Exit::Internal,
        };
        Self(error.to_string(), exit)
    }
}

/// Starts the service; gives what it was to listen on, too.
fn start(
    args: &ServeArgs,
    workload: &LoadedWorkload,
) -> Result<(server::Serving, Address), Refusal> {
    let file = &workload.file;
    let Some(service) = Service::of(&file.workload) else {
        let tag = file.workload.tag();
        let why = "it makes its requests itself, so there is nothing to connect to";
        return Err(Refusal::usage(format!("{tag} is no service: {why}")));
    };
    if args.admin.is_some() && !service.has_admin() {
        let why = format!("{} has no admin pages; leave --admin out", file.workload.tag());
        return Err(Refusal::usage(why));
    }
    let places = places(args).map_err(Refusal::usage)?;
    let needed = service.connections() + DESCRIPTORS_ASIDE;
    crate::process::allow_open_files(needed).map_err(CellError::HostUnfit)?;
    let spec = ServerSpec {
        peer: None,
        engine: file.engine.clone(),
        service,
        stages: file.stages.clone(),
        seed: file.seed,
        cpus: Vec::new(),
    };
    Ok((server::serve(&spec, &places)?, places.service))
}

/// Where the user wants the service and its admin pages: on this host alone, unless told otherwise.
fn places(args: &ServeArgs) -> Result<Places, String> {
    let mut places = Places::any_port();
    if let Some(text) = &args.listen {
        places.service = address(text)?;
    }
    if let Some(text) = &args.admin {
        let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
        let wrong = || format!("--admin `{text}` is no HOST:PORT of this host");
        places.admin = found.ok_or_else(wrong)?;
    }
    places.admin_token = match std::env::var(TOKEN_VARIABLE) {
        Ok(token) => Some(token),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => return Err(format!("{TOKEN_VARIABLE} is no text")),
    };
    Ok(places)
}

/// An address as the user writes it; a host's name is looked up.
fn address(text: &str) -> Result<Address, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let first = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    first.map(Address::from).ok_or_else(|| {
        format!("--listen `{text}` is neither HOST:PORT of this host nor unix:PATH nor passed:N")
    })
}
