/** ECS on Fargate: the service, and what a test may see and do beyond it. */
import type { Cloud } from "../../cloud.ts";
import type { Context } from "../../context.ts";
import type { Machine } from "../../../common/machine/machine.ts";
import { Resolver } from "../../../common/machine/resolver.ts";
import type { ServiceHandler } from "../../wire/service.ts";
import { clusterOperations, Clusters } from "./clusters.ts";
import { definitionOperations, Definitions } from "./definitions.ts";
import { EcsTags } from "./ecs-tags.ts";
import { MetadataEndpoint, TaskCredentials } from "./metadata.ts";
import { followSecurityGroups } from "./security-groups.ts";
import { type StartFailure, StartFailures } from "./start-failures.ts";
import { taskOperations } from "./task-operations.ts";
import { essentialExited, type TaskRun } from "./task-run.ts";
import type { TaskState } from "./task-state.ts";
import { Tasks } from "./tasks.ts";

/** Settings of the simulated ECS. */
export interface EcsOptions {
  /** Called once a task has its interface; may answer another address for it, at which something listens. */
  readonly onTask?: (task: TaskState) => string | undefined;
}

/** A task as a test sees it. */
export interface SeenTask {
  readonly state: TaskState;
  /** Its address in the VPC, while it has one. */
  readonly address: string | undefined;
  /** Process 1 of its containers by name, as this machine numbers them. */
  readonly pids: ReadonlyMap<string, number>;
  /** Resolves when it has stopped and nothing of it is left on this machine. */
  readonly finished: Promise<void>;
}

/** The simulated ECS. */
export class Ecs implements AsyncDisposable {
  readonly handler: ServiceHandler;
  readonly clusters: Clusters;
  readonly #tasks: Tasks;
  readonly #failures = new StartFailures();
  readonly #machine: Machine | undefined;
  readonly #credentials = new TaskCredentials();
  readonly #stack = new AsyncDisposableStack();

  private constructor(context: Context, cloud: Cloud, machine: Machine | undefined, options: EcsOptions) {
    const tags = new EcsTags();
    const definitions = new Definitions(context, tags);
    const { onTask } = options;
    this.#machine = machine;
    this.clusters = new Clusters(context);
    this.#tasks = new Tasks(
      {
        context,
        cloud,
        failures: this.#failures,
        machine,
        credentials: this.#credentials,
        onTask,
      },
      tags,
    );
    const tasks = this.#tasks;
    this.handler = {
      name: "ecs",
      codes: {
        invalid: "InvalidParameterException",
        throttled: "ThrottlingException",
        denied: "AccessDeniedException",
        unknownKey: "UnrecognizedClientException",
      },
      operations: {
        ...definitionOperations(context, definitions, tags),
        ...taskOperations(context, this.clusters, definitions, tasks, tags),
        ...clusterOperations(this.clusters, tags, (clusterArn) => countTasks(tasks, clusterArn)),
      },
    };
  }

  /** @param machine where tasks really run; without one they only go through the motions */
  static async start(
    context: Context,
    cloud: Cloud,
    machine: Machine | undefined,
    options: EcsOptions = {},
  ): Promise<Ecs> {
    const ecs = new Ecs(context, cloud, machine, options);
    if (machine !== undefined) {
      await ecs.#serveTasks(context, cloud, machine);
    }
    ecs.#stack.defer(() => ecs.#tasks.end());
    return ecs;
  }

  /** Every task that ECS remembers. */
  get tasks(): readonly SeenTask[] {
    return this.#tasks.runs().map((run) => this.#see(run));
  }

  /** One task by its ARN, or the ID at its end. */
  task(reference: string): SeenTask {
    return this.#see(this.#run(reference));
  }

  /** Lets starts fail. */
  failStarts(failure: StartFailure): void {
    this.#failures.add(failure);
  }

  /** Lets the main container of a task that does not really run end by itself. */
  end(reference: string): void {
    this.#run(reference).stop("EssentialContainerExited", essentialExited);
  }

  /** Takes a Spot task away: its containers get their stop signals. */
  interruptSpot(reference: string): void {
    const run = this.#run(reference);
    if (!run.task.isSpot) {
      throw new Error(`${reference} does not run on Spot`);
    }
    run.stop("SpotInterruption", "Your Spot Task was interrupted.");
  }

  /** Lets a task be gone at once, from this machine and from every answer. */
  vanish(reference: string): void {
    this.#tasks.vanish(this.#run(reference));
  }

  /** Drops everything from and to a task, until it is restored. */
  async cutNetwork(reference: string): Promise<void> {
    await this.#cut(reference, true);
  }

  /** Ends {@link cutNetwork}. */
  async restoreNetwork(reference: string): Promise<void> {
    await this.#cut(reference, false);
  }

  /** Ends every task. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** Serves what tasks find beside them: the rules of their groups, and the services at AWS's own addresses. */
  async #serveTasks(context: Context, { network, names }: Cloud, { vpc }: Machine): Promise<void> {
    this.#stack.defer(followSecurityGroups(network, vpc));
    const endpoint = this.#stack.use(
      await MetadataEndpoint.start(context, vpc.hostAddress, this.#credentials),
    );
    const resolver = this.#stack.use(
      await Resolver.start(vpc.hostAddress, (name) => names.addressesOf(name)),
    );
    const ipv6Resolver = network.subnets().some(({ cidr }) => cidr.includes(":"))
      ? await this.#serveIpv6(names, vpc)
      : undefined;
    await vpc.serve({ metadata: endpoint.port, resolver: resolver.port, ipv6Resolver });
  }

  async #serveIpv6(names: Cloud["names"], vpc: Machine["vpc"]): Promise<number> {
    await vpc.joinIpv6();
    const lookup = (name: string): readonly string[] | undefined => names.addressesOf(name);
    return this.#stack.use(await Resolver.start(vpc.hostIpv6Address, lookup)).port;
  }

  async #cut(reference: string, cut: boolean): Promise<void> {
    const { network } = this.#run(reference);
    if (network === undefined || this.#machine === undefined) {
      throw new Error(`${reference} has no network`);
    }
    await this.#machine.vpc.setCut(network, cut);
  }

  #run(reference: string): TaskRun {
    const found = this.#tasks.runs().find(({ task }) => task.taskArn === reference || task.id === reference);
    if (found === undefined) {
      throw new Error(`${reference}: no such task`);
    }
    return found;
  }

  #see(run: TaskRun): SeenTask {
    const machine = this.#machine;
    return {
      state: run.task,
      address: run.task.networkInterface?.privateIpAddress,
      get pids() {
        return new Map([...run.pids].map(([name, pid]) => [name, machine?.hostPid(pid) ?? 0]));
      },
      finished: run.finished,
    };
  }
}

function countTasks(
  tasks: Tasks,
  clusterArn: string,
): { readonly running: number; readonly pending: number } {
  const alive = tasks
    .runs()
    .filter(({ task }) => task.clusterArn === clusterArn && task.lastStatus !== "STOPPED");
  const running = alive.filter(({ task }) => task.lastStatus === "RUNNING").length;
  return { running, pending: alive.length - running };
}
