/** The task definitions that are registered: each content once, and gone a day after its last use. */
import {
  DeregisterTaskDefinitionCommand,
  DescribeTaskDefinitionCommand,
  type ECSClient,
  ListTaskDefinitionsCommand,
  RegisterTaskDefinitionCommand,
} from "@aws-sdk/client-ecs";
import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { DefinitionRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../common/state/state.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";
import { type Definition, familyPrefixOf } from "./definition.ts";

/** What the definitions are kept with. */
export interface DefinitionsOptions {
  readonly ecs: AwsService<ECSClient>;
  /** Of this sockerless. */
  readonly instance: string;
  readonly state: Pick<State, "definitions" | "commit">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** An unused definition is kept for a day, and how long ago it was used is written down by the hour. */
const keptMs = 24 * 60 * 60_000;
const useWrittenMs = 60 * 60_000;
const pageSize = 100;

/** The definitions of this backend. */
export class Definitions {
  readonly #options: DefinitionsOptions;
  /** Of those that are being looked for or registered, and of those that are known to be there. */
  readonly #arns = new Map<string, Promise<string>>();

  constructor(options: DefinitionsOptions) {
    this.#options = options;
  }

  /**
   * Registers a definition unless its like is there. AWS would register it again each time that it is told to: whoever
   * has got no answer calls this again, which looks first.
   *
   * @returns its ARN
   * @throws AwsError
   */
  async ensure(definition: Definition): Promise<string> {
    const { family } = definition;
    const known = this.#arns.get(family);
    const arn = known ?? this.#find(definition);
    if (known === undefined) {
      this.#arns.set(family, arn);
      arn.catch(() => this.#arns.delete(family));
    }
    const found = await arn;
    await this.#noteUse(family, found);
    return found;
  }

  /** A definition turned out to be gone (somebody has deregistered it): the next {@link ensure} registers it anew. */
  async forget(family: string): Promise<void> {
    this.#arns.delete(family);
    await this.#options.state.commit((change) => change.definitions.delete(family));
  }

  /** Deregisters what was not used for a day. What a state that was lost has left is given a day, too. */
  async sweep(signal: AbortSignal): Promise<void> {
    const { state, clock } = this.#options;
    const active = await this.#list(signal);
    for (const [family, [arn = "", ...doubles]] of active) {
      for (const double of doubles) {
        await this.#deregister(double, "deregistered a task definition that is registered twice", signal);
      }
      const record = state.definitions.get(family);
      if (record === undefined) {
        await this.#write(family, arn);
        continue;
      }
      const usedMs = record.lastUsed === undefined ? 0 : timestampDate(record.lastUsed).getTime();
      if (clock.nowMs() - usedMs < keptMs) {
        continue;
      }
      this.#arns.delete(family);
      await this.#deregister(arn, "deregistered a task definition that was not used for a day", signal);
      await state.commit((change) => change.definitions.delete(family));
    }
    for (const { family } of [...state.definitions.values()]) {
      if (!active.has(family)) {
        this.#arns.delete(family);
        await state.commit((change) => change.definitions.delete(family));
      }
    }
  }

  async #find(definition: Definition): Promise<string> {
    const { state } = this.#options;
    const { family } = definition;
    const known = state.definitions.get(family)?.arn;
    if (known !== undefined) {
      return known;
    }
    return (await this.#registered(family)) ?? (await this.#register(definition));
  }

  /** The ARN under which AWS has a definition; undefined: it has none that can be used. */
  async #registered(family: string): Promise<string | undefined> {
    const { ecs, logger } = this.#options;
    try {
      const { taskDefinition } = await ecs.send(
        new DescribeTaskDefinitionCommand({ taskDefinition: family }),
      );
      return taskDefinition?.status === "ACTIVE" ? taskDefinition.taskDefinitionArn : undefined;
    } catch (error) {
      if (!isAwsError(error, "ClientException", "InvalidParameterException")) {
        throw error;
      }
      logger.debug({ family, reason: messageOf(error) }, "a task definition is not registered yet");
      return undefined;
    }
  }

  async #register(definition: Definition): Promise<string> {
    const { ecs } = this.#options;
    const { taskDefinition } = await ecs.send(new RegisterTaskDefinitionCommand(definition));
    if (taskDefinition?.taskDefinitionArn === undefined) {
      throw systemError("ecs: RegisterTaskDefinition: no ARN came");
    }
    return taskDefinition.taskDefinitionArn;
  }

  async #deregister(arn: string, told: string, signal: AbortSignal): Promise<void> {
    const { ecs, logger } = this.#options;
    await ecs.send(new DeregisterTaskDefinitionCommand({ taskDefinition: arn }), { abortSignal: signal });
    logger.info({ definition: arn }, told);
  }

  /** The ARNs of this instance's, by family: that which is known here, or else the newest, comes first. */
  async #list(signal: AbortSignal): Promise<Map<string, string[]>> {
    const { instance, state } = this.#options;
    const prefix = familyPrefixOf(instance);
    const found = new Map<string, string[]>();
    let nextToken: string | undefined;
    do {
      const page = await this.#options.ecs.send(
        new ListTaskDefinitionsCommand({
          status: "ACTIVE",
          maxResults: pageSize,
          ...(nextToken === undefined ? {} : { nextToken }),
        }),
        { abortSignal: signal },
      );
      for (const arn of page.taskDefinitionArns ?? []) {
        const family = familyOf(arn);
        if (family.startsWith(prefix)) {
          const others = found.get(family) ?? [];
          const isKnown = state.definitions.get(family)?.arn === others[0];
          found.set(family, isKnown && others.length > 0 ? [...others, arn] : [arn, ...others]);
        }
      }
      nextToken = page.nextToken;
    } while (nextToken !== undefined);
    return found;
  }

  async #noteUse(family: string, arn: string): Promise<void> {
    const { state, clock } = this.#options;
    const record = state.definitions.get(family);
    const usedMs = record?.lastUsed === undefined ? 0 : timestampDate(record.lastUsed).getTime();
    if (record?.arn !== arn || clock.nowMs() - usedMs > useWrittenMs) {
      await this.#write(family, arn);
    }
  }

  async #write(family: string, arn: string): Promise<void> {
    const { state, clock } = this.#options;
    const lastUsed = timestampFromMs(clock.nowMs());
    await state.commit((change) =>
      change.definitions.put(create(DefinitionRecordSchema, { family, arn, lastUsed })),
    );
  }
}

/** `arn:aws:ecs:…:task-definition/<family>:<revision>` */
function familyOf(arn: string): string {
  return arn.slice(arn.lastIndexOf("/") + 1).replace(/:\d+$/, "");
}
