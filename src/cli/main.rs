//! From arguments to an exit code.

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

use super::args::{Cli, Command};
use super::output::{Printer, Report};
use super::settings::{self, Global};
use super::target::Target;
use super::{
    CliError, Exit, cluster, completion, config, demo_web, deploy, dev, explain, log, logs, node, ps, reap,
    run, scale, stop, version, with,
};
use crate::config::{For, Layers};

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // The launcher is single-threaded and logs nothing: it goes its own way at once.
    if let Command::Launcher { arguments } = cli.command {
        return crate::containerizer::launcher::main(arguments);
    }
    let mut layers = Layers::default();
    settings::add_flags(&cli, &mut layers);
    let outcome =
        settings::add_environment(&cli, &mut layers).and_then(|()| settings::add_files(&cli, &mut layers));
    // What every command takes does not depend on the command. A mistake is told in the form that is known so far.
    let global = Global::new(&cli.global, &layers.effective(For::Node));
    let printer = Printer::new(&global);
    match outcome.and_then(|()| start(cli.command, &global, &layers, printer)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            printer.error(&error);
            error.exit.into()
        }
    }
}

/// Prints what clap has to say. Help and versions are data, errors are not.
fn usage(error: &clap::Error) -> ExitCode {
    // Whoever closed the pipe has read enough, or nothing can be said.
    let _ = error.print();
    let is_help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !is_help { Exit::Usage.into() } else { Exit::Ok.into() }
}

fn start(command: Command, global: &Global, layers: &Layers, printer: Printer) -> Result<Exit, CliError> {
    log::start(global)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("the runtime could not start: {error}")))?;
    let exit = runtime.block_on(dispatch(command, global, layers, printer));
    // Whatever still runs here is a blocking read of a closed terminal; it must not hold us up.
    runtime.shutdown_background();
    exit
}

async fn dispatch(
    command: Command,
    global: &Global,
    layers: &Layers,
    printer: Printer,
) -> Result<Exit, CliError> {
    let target = || Target::find(global.addr.as_deref());
    match command {
        Command::Dev(arguments) => {
            let settings = layers.effective(For::Dev);
            Box::pin(dev::dev(arguments, &settings, global, printer)).await
        }
        Command::Deploy(arguments) => Box::pin(deploy::deploy(arguments, &target()?, printer)).await,
        Command::Ps(arguments) if arguments.watch => ps::watch(&arguments, global, &target()?, printer).await,
        Command::Ps(arguments) => {
            ps::ps(&arguments, global, &target()?).await.and_then(|report| show(printer, &report))
        }
        Command::Logs(arguments) => Box::pin(logs::logs(arguments, global, &target()?, printer)).await,
        Command::Scale(arguments) => Box::pin(scale::scale(arguments, &target()?, printer)).await,
        Command::Stop(arguments) => Box::pin(stop::stop(arguments, &target()?, printer)).await,
        Command::Run(arguments) => Box::pin(run::run(arguments, global, printer)).await,
        Command::Reap(arguments) => reap::reap(&arguments, printer).await,
        Command::With(arguments) => Box::pin(with::with(arguments, printer)).await,
        Command::Explain(arguments) => {
            explain::explain(&arguments, &target()?).await.and_then(|report| show(printer, &report))
        }
        Command::Cluster { command } => {
            cluster::cluster(command, target).await.and_then(|report| show(printer, &report))
        }
        Command::Node(arguments) => {
            Box::pin(node::node(arguments, &layers.effective(For::Node), printer)).await
        }
        Command::Config { command } => {
            config::config(&command, layers).and_then(|report| show(printer, &report))
        }
        Command::Completion(arguments) => {
            completion::completion(&arguments).and_then(|report| show(printer, &report))
        }
        Command::Version => show(printer, &version_report()),
        Command::DemoWeb(arguments) => demo_web::serve(arguments).await,
        Command::Launcher { .. } => Err(CliError::with(Exit::Usage, "the launcher was started above")),
    }
}

fn show(printer: Printer, report: &Report) -> Result<Exit, CliError> {
    printer.report(report).map(|()| Exit::Ok)
}

fn version_report() -> Report {
    let json = version::version();
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let lines = vec![
        format!("mesita {}", text("mesita")),
        format!("speaks Mesos {} (v1 API) and Marathon {} (/v2)", text("mesos_api"), text("marathon_api")),
    ];
    Report { ids: vec![text("mesita")], lines, json, items: None }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::args::Format;
    use super::*;

    fn global(arguments: &[&str]) -> Global {
        let cli = Cli::try_parse_from([&["mesita"], arguments].concat()).expect("valid arguments");
        let mut layers = Layers::default();
        settings::add_flags(&cli, &mut layers);
        Global::new(&cli.global, &layers.effective(For::Node))
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn json_is_an_alias() {
        assert_eq!(global(&["ps"]).output, Format::Table);
        assert_eq!(global(&["--json", "ps"]).output, Format::Json);
        assert_eq!(global(&["ps", "--json", "-o", "yaml"]).output, Format::Yaml);
        assert!(Printer::new(&global(&["ps", "--json"])).is_json());
    }
}
