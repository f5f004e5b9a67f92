/** Microsoft.App, and what a test may see and do beyond its API. */
import type { Context } from "../../context.ts";
import type { Machine } from "../../../common/machine/machine.ts";
import { Resolver } from "../../../common/machine/resolver.ts";
import { LongOperations } from "../../wire/long-running.ts";
import type { ResourceProvider } from "../../wire/provider.ts";
import { Addresses } from "./addresses.ts";
import { Environments } from "./environments.ts";
import {
  type ConsoleLine,
  type ExecutionRun,
  type ExecutionStatus,
  type Mounted,
  replicaGroup,
} from "./execution-run.ts";
import { Executions, type SeenExecution } from "./executions.ts";
import { Jobs } from "./jobs.ts";
import { type IdentityRegistries, Puller } from "./pulling.ts";
import type { StorageMount } from "../storage/mounts.ts";

/** Other services, as Container Apps uses them. */
export interface AppServices {
  /** Mounts an environment's storage. @throws Error whose message is the mount's */
  mount(mount: StorageMount): Promise<Mounted>;
  readonly registries: IdentityRegistries;
  onLine(line: ConsoleLine): void;
}

/** The simulated Container Apps. */
export class App implements AsyncDisposable {
  readonly provider: ResourceProvider;
  readonly environments: Environments;
  readonly jobs: Jobs;
  /** Names that replicas can resolve besides addresses, with their addresses: the Internet's, so to speak. */
  readonly names = new Map<string, readonly string[]>();
  readonly #executions: Executions;
  readonly #lines: ConsoleLine[] = [];
  readonly #losses: { readonly jobs: string; left: number }[] = [];
  readonly #machine: Machine | undefined;
  readonly #stack = new AsyncDisposableStack();

  private constructor(context: Context, services: AppServices, machine: Machine | undefined) {
    this.#machine = machine;
    const puller = machine === undefined ? undefined : new Puller(machine.images, services.registries);
    const addresses = new Addresses(machine?.vpc.cidr ?? "10.0.0.0/18");
    this.#executions = new Executions(context, {
      context,
      machine,
      puller,
      addresses,
      losesReplica: (job) => this.#takeLoss(job),
      shares: {
        mount: async ({ environmentId, volume, options }) => {
          const environment = this.environments.byId(environmentId);
          const name = volume.storageName ?? "";
          const storage =
            environment === undefined ? undefined : this.environments.storage(environment, name);
          if (storage === undefined) {
            throw new Error(`storage ${name} is not there`);
          }
          return await services.mount({ storage, options });
        },
      },
      onLine: (line) => {
        this.#lines.push(line);
        services.onLine(line);
      },
    });
    const operations = new LongOperations(context, "Microsoft.App", "containerappsjob");
    this.environments = new Environments(context);
    this.jobs = new Jobs(context, this.environments, this.#executions, operations, puller);
    this.provider = {
      name: "app",
      namespace: "Microsoft.App",
      apiVersions: ["2025-07-01"],
      operations: [
        ...this.jobs.calls(),
        ...this.environments.operations({
          jobsWith: (environment, storageName) => this.jobs.jobsWith(environment, storageName),
          coresIn: (environment) => this.jobs.coresIn(environment),
        }),
        ...operations.calls,
      ],
    };
  }

  /** @param machine where replicas really run; without one they only go through the motions */
  static async start(context: Context, services: AppServices, machine: Machine | undefined): Promise<App> {
    const app = new App(context, services, machine);
    if (machine !== undefined) {
      const { vpc } = machine;
      await vpc.setGroup(replicaGroup, { ingress: [], egress: [{ protocol: "-1", cidr: "0.0.0.0/0" }] });
      const resolver = await Resolver.start(vpc.hostAddress, (name) => app.names.get(name));
      app.#stack.use(resolver);
      await vpc.serve({ resolver: resolver.port });
    }
    app.#stack.defer(() => app.#executions.end());
    return app;
  }

  /** Every execution that Container Apps remembers, in the order of their starts. */
  get executions(): readonly SeenExecution[] {
    return this.#executions.all().map((each) => this.#executions.see(each));
  }

  /** One execution by its name. */
  execution(name: string): SeenExecution {
    const found = this.executions.find((each) => each.name === name);
    if (found === undefined) {
      throw new Error(`${name}: no such execution`);
    }
    return found;
  }

  /** Lines that the containers of an execution have written, at once and whole, other than in Log Analytics. */
  linesOf(execution: string, container?: string): string[] {
    return this.#lines
      .filter((line) => line.execution === execution && (container ?? line.container) === line.container)
      .map(({ text }) => text);
  }

  /** Lets the containers of an execution that does not really run end. */
  end(name: string, exitCode = 0): void {
    this.#run(name).pretendEnd(exitCode);
  }

  /** Lets a replica be killed without warning, as when its machine fails. */
  kill(name: string): void {
    this.#run(name).crash();
  }

  /** Lets replicas fail before any container of theirs runs, as when their machine fails. @param jobs how their names begin */
  failReplicas(jobs: string, times = 1): void {
    this.#losses.push({ jobs, left: times });
  }

  /** Lets the API tell another status of an execution than its true one; undefined: the true one again. */
  tell(name: string, status: ExecutionStatus | undefined): void {
    this.#run(name).told = status;
  }

  /** Drops everything from and to a replica, until it is restored. */
  async cutNetwork(name: string): Promise<void> {
    await this.#cut(name, true);
  }

  /** Ends {@link cutNetwork}. */
  async restoreNetwork(name: string): Promise<void> {
    await this.#cut(name, false);
  }

  /** Ends every execution. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  #takeLoss(job: string): boolean {
    const loss = this.#losses.find(({ jobs, left }) => left > 0 && job.startsWith(jobs));
    if (loss !== undefined) {
      loss.left -= 1;
    }
    return loss !== undefined;
  }

  #run(name: string): ExecutionRun {
    const found = this.#executions.all().find((each) => each.name === name);
    if (found === undefined) {
      throw new Error(`${name}: no such execution`);
    }
    return found.run;
  }

  async #cut(name: string, cut: boolean): Promise<void> {
    const { network } = this.#run(name);
    if (network === undefined || this.#machine === undefined) {
      throw new Error(`${name} has no network`);
    }
    await this.#machine.vpc.setCut(network, cut);
  }
}
