/** A task as ECS keeps it, and what it answers of it. */
import type { Attachment, Container, RunTaskCommandInput, Task, TaskStopCode } from "@aws-sdk/client-ecs";

import type { NetworkInterface } from "../../cloud.ts";
import { arnOf, type Context } from "../../context.ts";
import type { Given } from "../../wire/service.ts";
import type { RegisteredDefinition } from "./definitions.ts";
import { cpuUnits } from "./sizes.ts";

/** Statuses of a task, in the order in which ECS lets it go through them. */
const taskStatuses = [
  "PROVISIONING",
  "PENDING",
  "ACTIVATING",
  "RUNNING",
  "DEACTIVATING",
  "STOPPING",
  "DEPROVISIONING",
  "STOPPED",
] as const;

export type TaskStatus = (typeof taskStatuses)[number];

/** The subnets among which a task's interface is placed, and the interface's groups. */
export interface Placement {
  readonly subnetIds: readonly string[];
  readonly groupIds: readonly string[];
}

/** A task. */
export class TaskState {
  readonly taskArn: string;
  /** 32 hexadecimal digits: the end of its ARN. */
  readonly id: string;
  readonly definition: RegisteredDefinition;
  readonly overrides: NonNullable<Given<RunTaskCommandInput>["overrides"]>;
  readonly placement: Placement;
  readonly isSpot: boolean;
  readonly vcpus: number;
  networkInterface: NetworkInterface | undefined;
  readonly #context: Context;
  readonly #wire: Given<Task>;

  constructor(
    context: Context,
    made: {
      readonly id: string;
      readonly clusterName: string;
      readonly definition: RegisteredDefinition;
      readonly request: Given<RunTaskCommandInput>;
      readonly placement: Placement;
      readonly capacityProviderName: string | undefined;
    },
  ) {
    const { id, clusterName, definition, request } = made;
    this.#context = context;
    this.id = id;
    this.taskArn = arnOf(context, "ecs", `task/${clusterName}/${id}`);
    this.definition = definition;
    this.overrides = request.overrides ?? {};
    this.placement = made.placement;
    this.vcpus = (cpuUnits(this.overrides.cpu ?? definition.cpu ?? "") ?? 0) / 1024;
    this.isSpot = made.capacityProviderName === "FARGATE_SPOT";
    const attachment: Given<Attachment> = {
      id: crypto.randomUUID(),
      type: "ElasticNetworkInterface",
      status: "PRECREATED",
      details: [{ name: "subnetId", value: made.placement.subnetIds[0] ?? "" }],
    };
    const ephemeralStorage = this.overrides.ephemeralStorage ?? { sizeInGiB: 20 };
    this.#wire = {
      attachments: [attachment],
      attributes: [
        {
          name: "ecs.cpu-architecture",
          value: definition.runtimePlatform?.cpuArchitecture === "ARM64" ? "arm64" : "x86_64",
        },
      ],
      clusterArn: arnOf(context, "ecs", `cluster/${clusterName}`),
      containers: (definition.containerDefinitions ?? []).map((container) => ({
        containerArn: arnOf(context, "ecs", `container/${clusterName}/${id}/${crypto.randomUUID()}`),
        taskArn: this.taskArn,
        name: container.name ?? "",
        image: container.image ?? "",
        lastStatus: "PENDING",
        networkInterfaces: [],
        healthStatus: "UNKNOWN",
        cpu: "0",
      })),
      cpu: this.overrides.cpu ?? definition.cpu ?? "",
      createdAt: context.clock.now(),
      desiredStatus: "RUNNING",
      enableExecuteCommand: false,
      group: `family:${definition.family ?? ""}`,
      healthStatus: "UNKNOWN",
      lastStatus: "PROVISIONING",
      launchType: "FARGATE",
      ...(made.capacityProviderName !== undefined && { capacityProviderName: made.capacityProviderName }),
      memory: this.overrides.memory ?? definition.memory ?? "",
      overrides: {
        ...this.overrides,
        containerOverrides: (definition.containerDefinitions ?? []).map(
          ({ name = "" }) =>
            this.overrides.containerOverrides?.find((each) => each.name === name) ?? { name },
        ),
        inferenceAcceleratorOverrides: [],
      },
      platformVersion: "1.4.0",
      platformFamily: "Linux",
      ...(request.startedBy !== undefined && { startedBy: request.startedBy }),
      tags: [],
      taskArn: this.taskArn,
      taskDefinitionArn: definition.taskDefinitionArn ?? "",
      version: 1,
      ephemeralStorage,
      fargateEphemeralStorage: ephemeralStorage,
    };
  }

  get lastStatus(): TaskStatus {
    return this.#wire.lastStatus as TaskStatus;
  }

  get desiredStatus(): "RUNNING" | "STOPPED" {
    return this.#wire.desiredStatus === "STOPPED" ? "STOPPED" : "RUNNING";
  }

  get startedBy(): string | undefined {
    return this.#wire.startedBy;
  }

  get createdAtMs(): number {
    return this.#wire.createdAt?.getTime() ?? 0;
  }

  get clusterArn(): string {
    return this.#wire.clusterArn ?? "";
  }

  /** A copy of the task as `DescribeTasks` answers it. */
  describe(tags: readonly { key: string; value: string }[] = []): Task {
    return { ...(structuredClone(this.#wire) as Task), tags: [...tags] };
  }

  /** Goes on to a status; never back. */
  advance(to: TaskStatus): void {
    if (taskStatuses.indexOf(to) <= taskStatuses.indexOf(this.lastStatus)) {
      return;
    }
    const now = this.#context.clock.now();
    const times: Partial<Given<Task>> =
      to === "ACTIVATING"
        ? { connectivity: "CONNECTED", connectivityAt: now }
        : to === "RUNNING"
          ? { startedAt: now }
          : to === "STOPPED"
            ? { stoppedAt: now }
            : {};
    this.#change({ ...times, lastStatus: to });
  }

  /** Notes that the task is to end; of several reasons the first stays. */
  wantStopped(stopCode: TaskStopCode, stoppedReason: string): void {
    if (this.desiredStatus === "RUNNING") {
      this.#change({
        desiredStatus: "STOPPED",
        stopCode,
        stoppedReason,
        stoppingAt: this.#context.clock.now(),
      });
    }
  }

  /** Notes that the containers have ended. */
  executionStopped(): void {
    this.#change({ executionStoppedAt: this.#context.clock.now() });
  }

  pulling(began: boolean): void {
    this.#change(
      began ? { pullStartedAt: this.#context.clock.now() } : { pullStoppedAt: this.#context.clock.now() },
    );
  }

  /** Notes the task's interface, and the address at which it is reached. */
  attached(networkInterface: NetworkInterface, address = networkInterface.privateIpAddress): void {
    this.networkInterface = networkInterface;
    const { subnet, networkInterfaceId, macAddress, privateDnsName } = networkInterface;
    const details = {
      subnetId: subnet.subnetId,
      networkInterfaceId,
      macAddress,
      privateDnsName,
      ...(address.includes(":") ? { ipv6Address: address } : { privateIPv4Address: address }),
    };
    const [attachment] = this.#wire.attachments ?? [];
    this.#change({
      availabilityZone: subnet.availabilityZone,
      attachments: [
        {
          ...attachment,
          status: "ATTACHED",
          details: Object.entries(details).map(([name, value]) => ({ name, value })),
        },
      ],
      containers: (this.#wire.containers ?? []).map((container) => ({
        ...container,
        networkInterfaces: [
          {
            attachmentId: attachment?.id ?? "",
            [address.includes(":") ? "ipv6Address" : "privateIpv4Address"]: address,
          },
        ],
      })),
    });
  }

  detached(): void {
    const [attachment] = this.#wire.attachments ?? [];
    this.#change({
      attachments: [{ ...attachment, status: attachment?.status === "ATTACHED" ? "DELETED" : "PRECREATED" }],
    });
  }

  changeContainer(name: string, change: Partial<Given<Container>>): void {
    const containers = (this.#wire.containers ?? []).map((container) =>
      container.name === name ? { ...container, ...change } : container,
    );
    this.#change({ containers });
  }

  #change(change: Partial<Given<Task>>): void {
    Object.assign(this.#wire, change, { version: (this.#wire.version ?? 0) + 1 });
  }
}
