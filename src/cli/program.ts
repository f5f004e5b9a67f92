/** The commands of sockerless, with what each does. */
import { type Command, InvalidArgumentError, Option } from "commander";

import type { Config } from "../common/config/load.ts";
import { backendNames } from "../common/config/schema.ts";
import { revision } from "../common/revision.ts";
import { version } from "../common/version.ts";
import { configOf, configured, metricsAddrOf, newProgram, serveCommand, stateDirOf } from "./commands.ts";
import { backendService, frontendService } from "./services.ts";

/** Forms of the commands' answers. */
const formats = ["table", "json"] as const;
type Format = (typeof formats)[number];

/** Options of `sockerless doctor`. */
interface DoctorOptions {
  readonly format: Format;
  readonly containers: number;
  readonly startPod?: true;
  readonly startJob?: true;
}

/** The program with all of its commands. */
export function sockerlessProgram(): Command {
  const program = newProgram();

  // `bin/sockerless serve` starts with serve-process.ts, which parses the command line itself and loads nothing of this
  // file.
  serveCommand(program).action(async () => {
    await import("./serve-process.ts");
  });

  configured(program.command("stop"), "stop")
    .description(
      "End the daemon of a state directory and wait until it has ended; it is no error if none runs.",
    )
    .action(async (_, command: Command) => {
      const stateDir = stateDirOf(command);
      const { stop } = await import("./stop.ts");
      const ended = await stop(stateDir, (line) => process.stderr.write(`sockerless stop: ${line}\n`));
      process.stdout.write(`${ended}\n`);
    });

  configured(program.command("check"), "stop")
    .description(
      "Find what a broken disk has left of a state directory. The daemon must not run. The exit code is 2 if there is damage.",
    )
    .option("--repair", "Mend what can be mended, and put aside what cannot.")
    .action(async ({ repair }: { readonly repair?: true }, command: Command) => {
      const { checkState, reportFindings } = await import("./check.ts");
      const findings = await checkState(stateDirOf(command), repair === true);
      process.stdout.write(reportFindings(findings));
      process.exitCode = findings.length === 0 || repair === true ? 0 : 2;
    });

  configured(program.command("backup"), "stop")
    .description("Write a backup of a state directory, also while its daemon runs.")
    .argument("<file>", "Tar archive; its suffix chooses the compression: .tar, .tar.gz, .tar.xz, .tar.zst.")
    .option("--volumes", "With the content of volumes.")
    .action(async (file: string, { volumes }: { readonly volumes?: true }, command: Command) => {
      const { backup } = await import("./backup.ts");
      await backup(stateDirOf(command), file, volumes === true);
    });
  configured(program.command("restore"), "stop")
    .description("Make a state directory of a backup. The directory must be missing or empty.")
    .argument("<file>", "What sockerless backup has written.")
    .action(async (file: string, _, command: Command) => {
      const { restore } = await import("./backup.ts");
      await restore(stateDirOf(command), file);
    });

  configured(program.command("frontend"), "frontend")
    .description("Run the frontend alone: the Docker API for a backend that runs elsewhere.")
    .action(async (_, command: Command) => {
      const config = configOf(command, "frontend");
      const [{ serveAlone }, { dockerHostLine }] = await Promise.all([
        import("./alone.ts"),
        import("./docker-host.ts"),
      ]);
      const reread = (): Config => configOf(command, "frontend");
      await serveAlone(frontendService(), config, reread, ([address = config.hosts[0] ?? ""]) =>
        dockerHostLine(address),
      );
    });

  const backend = program.command("backend").description("Run a backend alone.");
  for (const name of backendNames) {
    configured(backend.command(name), "backend", name)
      .description(`Run the ${name} backend.`)
      .action(async (_, command: Command) => {
        const config = configOf(command, "backend", name);
        const { serveAlone } = await import("./alone.ts");
        await serveAlone(
          backendService(name),
          config,
          () => configOf(command, "backend", name),
          ([address = config.listen]) => `sockerless backend ${name} listens on ${address}`,
        );
      });
  }

  const ecs = program.command("ecs").description("Prepare what the ecs backend uses in AWS.");
  configured(ecs.command("push-agent"), "backend", "ecs")
    .description(
      "Put the image that brings the agent into tasks into ecs.ecr_repository, and print its name.",
    )
    .option(
      "--agent <file>",
      "An agent for ecs.architecture, where the one that was built here is for another.",
    )
    .action(async ({ agent }: { readonly agent?: string }, command: Command) => {
      const config = configOf(command, "backend", "ecs");
      if (config.backend === "ecs") {
        const { pushAgent } = await import("../backends/ecs/push-agent.ts");
        const { reference, isNew } = await pushAgent(config, agent);
        process.stdout.write(`${isNew ? "pushed" : "already there"}: ${reference}\n`);
      }
    });

  const aca = program.command("aca").description("Prepare what the aca backend uses in Azure.");
  configured(aca.command("push-agent"), "backend", "aca")
    .description(
      "Put the image that brings the agent into jobs into aca.registry_server, and print its name.",
    )
    .option(
      "--agent <file>",
      "An agent for amd64, where the one that was built here is for another processor.",
    )
    .action(async ({ agent }: { readonly agent?: string }, command: Command) => {
      const config = configOf(command, "backend", "aca");
      if (config.backend === "aca") {
        const { pushAgent } = await import("../backends/aca/push-agent.ts");
        const { reference, isNew } = await pushAgent(config, agent);
        process.stdout.write(`${isNew ? "pushed" : "already there"}: ${reference}\n`);
      }
    });

  const kubernetes = program
    .command("kubernetes")
    .description("Prepare what the kubernetes backend uses in a cluster.");
  configured(kubernetes.command("push-agent"), "backend", "kubernetes")
    .description(
      "Put the image that brings the agent into pods into kubernetes.registry, and print its name.",
    )
    .option(
      "--agent <file>",
      "An agent for kubernetes.architecture, where the one that was built here is for another.",
    )
    .action(async ({ agent }: { readonly agent?: string }, command: Command) => {
      const config = configOf(command, "backend", "kubernetes");
      if (config.backend === "kubernetes") {
        const { pushAgent } = await import("../backends/kubernetes/push-agent.ts");
        const { reference, isNew } = await pushAgent(config, agent);
        process.stdout.write(`${isNew ? "pushed" : "already there"}: ${reference}\n`);
      }
    });

  configured(program.command("why"), "frontend")
    .description("Tell how far a container's start has come, what took how long, and what went wrong.")
    .argument("<container>", "Its name or ID, at DOCKER_HOST or --host.")
    .action(async (container: string, _, command: Command) => {
      const [{ askDocker }, { readPoolLabel }, { why }] = await Promise.all([
        import("./docker-api.ts"),
        import("./status.ts"),
        import("./why.ts"),
      ]);
      const host = hostOf(command);
      const path = `/containers/${encodeURIComponent(container)}/json`;
      const [inspected, pool] = await Promise.all([
        askDocker(host, path, process.env),
        readPoolLabel(host, process.env),
      ]);
      const lines = why(inspected, pool);
      process.stdout.write(`${lines.join("\n")}\n`);
    });

  configured(program.command("status"), "frontend")
    .description("Tell what runs: processes, backend, containers, starts that wait, warnings.")
    .addOption(new Option("--format <format>", "Form of the answer.").choices(formats).default("table"))
    .action(async ({ format }: { readonly format: Format }, command: Command) => {
      const { readStatus, statusTable } = await import("./status.ts");
      const status = await readStatus(hostOf(command), process.env);
      const text = format === "json" ? JSON.stringify(status, undefined, 2) : statusTable(status).join("\n");
      process.stdout.write(`${text}\n`);
    });

  configured(program.command("healthcheck"), "healthcheck")
    .description(
      "Ask a daemon at --metrics-addr whether it is ready. Exit code 1: it is not, or nothing answers.",
    )
    .action(async (_, command: Command) => {
      const { askReadiness } = await import("./healthcheck.ts");
      const { isReady, text } = await askReadiness(metricsAddrOf(command));
      process.stdout.write(text);
      process.exitCode = isReady ? 0 : 1;
    });

  configured(program.command("context"), "frontend")
    .description("Make or change a docker context that leads to DOCKER_HOST or --host.")
    .argument("[name]", "Its name.", "sockerless")
    .option("--use", "Make it the current one.")
    .action(async (name: string, { use }: { readonly use?: true }, command: Command) => {
      const { makeContext } = await import("./context.ts");
      const lines = makeContext({
        name,
        host: hostOf(command),
        isUsed: use === true,
        environment: process.env,
      });
      process.stdout.write(`${lines.join("\n")}\n`);
    });

  configured(program.command("cost"), "serve")
    .description(
      "Tell what containers cost that run now or ran today: their vCPUs and memory at a dated table's prices.",
    )
    .option("--prices <file>", "JSON with other prices than those that are known here.")
    .option("--since <time>", "ISO date or time, in place of the last midnight (UTC).")
    .option("--label <key>", "Sums by the values of a label, in place of containers.")
    .addOption(new Option("--format <format>", "Form of the answer.").choices(formats).default("table"))
    .action(
      async (
        options: {
          readonly prices?: string;
          readonly since?: string;
          readonly label?: string;
          readonly format: Format;
        },
        command: Command,
      ) => {
        const { costTable, readCosts } = await import("./cost/cost.ts");
        const config = configOf(command, "serve");
        const costs = await readCosts(config, hostOf(command), { ...options, environment: process.env });
        const text =
          options.format === "json" ? JSON.stringify(costs, undefined, 2) : costTable(costs).join("\n");
        process.stdout.write(`${text}\n`);
      },
    );

  const pool = program
    .command("pool")
    .description("Ask a backend about the tasks that wait for containers, and stop them.");
  const views = {
    list: "List the tasks that wait for containers.",
    forecast: "Tell how many tasks are to wait now, and for which containers.",
  } as const;
  for (const view of ["list", "forecast"] as const) {
    configured(pool.command(view), "frontend")
      .description(views[view])
      .addOption(new Option("--format <format>", "Form of the answer.").choices(formats).default("table"))
      .action(async ({ format }: { readonly format: Format }, command: Command) => {
        const { poolJson, poolTable, readPool } = await import("./pool.ts");
        const told = await readPool(configOf(command, "frontend"));
        const text = format === "json" ? poolJson(told) : poolTable(told, view, Date.now()).join("\n");
        process.stdout.write(`${text}\n`);
      });
  }
  configured(pool.command("drain"), "frontend")
    .description("Stop all tasks that wait for containers, and prepare none for a time.")
    .option("--for <duration>", "That time, unless the backend starts anew.", "1m")
    .action(async (options: { readonly for: string }, command: Command) => {
      const { drainPool } = await import("./pool.ts");
      process.stdout.write(`${await drainPool(configOf(command, "frontend"), options.for)}\n`);
    });

  configured(program.command("debug"), "serve")
    .description(
      "Write a file for a report of a fault: versions, settings without secrets, status, the log's end.",
    )
    .argument("<file>", "A new file, a gzipped tar.")
    .action(async (file: string, _, command: Command) => {
      const { writeDebugFile } = await import("./debug.ts");
      const config = configOf(command, "serve");
      const lines = await writeDebugFile(file, config, hostOf(command), process.env);
      process.stdout.write(`${lines.join("\n")}\n`);
    });

  configured(program.command("doctor"), "serve")
    .description(
      "Look at what a first day needs: this machine for local, else the cloud. Exit code 1: something is wrong.",
    )
    .addOption(new Option("--format <format>", "Form of the answer.").choices(formats).default("table"))
    .addOption(
      new Option(
        "--containers <count>",
        "How many containers are to run at once in the cloud, which its quotas are compared with.",
      )
        .argParser((text) => {
          if (!/^[1-9]\d{0,5}$/.test(text)) {
            throw new InvalidArgumentError("It must be a number from 1 on.");
          }
          return Number(text);
        })
        .default(1),
    )
    .option(
      "--start-pod",
      "Start pods in the cluster as containers get them, and delete them (kubernetes only).",
    )
    .option(
      "--start-job",
      "Start jobs as containers get them, one of which calls this machine, and delete them (aca only).",
    )
    .action(async ({ format, containers, startPod, startJob }: DoctorOptions, command: Command) => {
      const { examine, findingsTable, isHealthy } = await import("./doctor/doctor.ts");
      const starts = startPod === true ? "pod" : startJob === true ? "job" : undefined;
      const expected = { containers, starts } as const;
      const findings = await examine(configOf(command, "serve"), expected);
      const text =
        format === "json" ? JSON.stringify(findings, undefined, 2) : findingsTable(findings).join("\n");
      process.stdout.write(`${text}\n`);
      process.exitCode = isHealthy(findings) ? 0 : 1;
    });

  configured(program.command("gc"), "serve")
    .description(
      "Show what is left on the disk and in the cloud that no container needs. The daemon must not run.",
    )
    .option("--remove", "Remove it.")
    .option("--instance <name>", "Of another instance, which is lost for good, instead of this one's.")
    .addOption(new Option("--format <format>", "Form of the answer.").choices(formats).default("table"))
    .action(
      async (
        options: { readonly remove?: true; readonly instance?: string; readonly format: Format },
        command: Command,
      ) => {
        const { collectGarbage } = await import("./gc.ts");
        await collectGarbage(configOf(command, "serve"), {
          remove: options.remove === true,
          instance: options.instance,
          format: options.format,
          print: (line) => process.stdout.write(`${line}\n`),
        });
      },
    );

  program
    .command("version")
    .description("Print the version, and the commit that it was made from with its date.")
    .action(() => {
      const built = revision();
      process.stdout.write(
        built === undefined
          ? `sockerless ${version}\n`
          : `sockerless ${version}, commit ${built.commit}, ${built.date}\n`,
      );
    });
  return program;
}

/** The Docker API that a command asks: of its flag, else DOCKER_HOST, else the configuration. */
function hostOf(command: Command): string {
  const [asked] = command.getOptionValueSource("host") === undefined ? [process.env["DOCKER_HOST"]] : [];
  return asked ?? configOf(command, "frontend").hosts[0] ?? "";
}
