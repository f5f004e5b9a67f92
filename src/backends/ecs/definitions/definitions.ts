/** Registered task definitions: one per content, deleted a day after the last use. */
import {
  DeleteTaskDefinitionsCommand,
  DeregisterTaskDefinitionCommand,
  DescribeTaskDefinitionCommand,
  type ECSClient,
  ListTaskDefinitionFamiliesCommand,
  ListTaskDefinitionsCommand,
  type ListTaskDefinitionsCommandInput,
  RegisterTaskDefinitionCommand,
} from "@aws-sdk/client-ecs";
import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import { remember } from "../../../common/forget-oldest.ts";
import type { Logger } from "../../../common/logger.ts";
import { DefinitionRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { pagesOf } from "../../cloud/calls/pages.ts";
import { Limiter } from "../../concurrency/limiter.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";
import type { State } from "../../state/state.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";
import { type Definition, familyPrefixOf } from "./definition.ts";

/** Settings and dependencies of {@link Definitions}. */
export interface DefinitionsOptions {
  readonly ecs: AwsService<ECSClient>;
  /** Name of this instance: `sockerless/<hex>`. */
  readonly instance: string;
  readonly state: Pick<State, "definitions" | "commit">;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** How long an unused definition is kept; the last use is recorded by the hour. */
const keptMs = 24 * 60 * 60_000;
const useWrittenMs = 60 * 60_000;
const pageSize = 100;
/** Maximum definitions per call of DeleteTaskDefinitions. */
const mostDeleted = 10;
/** Contents kept to tell how requests differ: at most 64 KiB each. */
const mostContents = 256;

/** The definitions of this backend. */
export class Definitions {
  readonly #options: DefinitionsOptions;
  /** ARNs by family, of definitions that exist or are being looked up or registered. */
  readonly #arns = new Map<string, { readonly arn: Promise<string>; readonly signal: AbortSignal }>();
  /** Definitions that this process has last requested, by family. */
  readonly #contents = new Map<string, Definition>();
  /** Registrations, of which AWS makes one a second: one at a time for all containers made through one Docker socket. */
  readonly #turns = new Limiter(1);

  constructor(options: DefinitionsOptions) {
    this.#options = options;
  }

  /**
   * Registers a definition unless an equal one exists. AWS would register it again with each call: a caller whose
   * answer was lost calls this again, which checks first.
   *
   * @param signal ends the wait, and what AWS has not been asked for by then
   * @param creator the container through whose Docker socket the task's was made
   * @returns its ARN
   * @throws AwsError
   */
  async ensure(
    definition: Definition,
    signal = new AbortController().signal,
    creator?: string,
  ): Promise<string> {
    const { family } = definition;
    const waits = creator !== undefined && !this.#arns.has(family);
    using _turn = waits ? await this.#turns.acquire(creator, signal) : undefined;
    const found = await this.#shared(definition, signal);
    remember(this.#contents, family, definition, mostContents);
    await this.#noteUse(family, found);
    return found;
  }

  /** The content of a definition; undefined if this process has not requested it recently. */
  contentOf(arn: string): Definition | undefined {
    return this.#contents.get(familyOf(arn));
  }

  /** Forgets a definition that somebody has deregistered: the next {@link ensure} registers it again. */
  async forget(family: string): Promise<void> {
    this.#arns.delete(family);
    await this.#options.state.commit((change) => change.definitions.delete(family));
  }

  /**
   * Deregisters definitions that were not used for a day, and deletes deregistered ones; running tasks are not
   * affected. Definitions of a lost state are kept for a day, too.
   */
  async sweep(signal: AbortSignal): Promise<void> {
    const { state, clock } = this.#options;
    const active = await this.#list(signal);
    const inactive: string[] = [];
    for (const [family, [arn = "", ...doubles]] of active) {
      for (const double of doubles) {
        await this.#deregister(double, "deregistered a task definition that is registered twice", signal);
        inactive.push(double);
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
      this.#contents.delete(family);
      await this.#deregister(arn, "deregistered a task definition that was not used for a day", signal);
      await state.commit((change) => change.definitions.delete(family));
    }
    for (const { family } of [...state.definitions.values()]) {
      if (!active.has(family)) {
        this.#arns.delete(family);
        await state.commit((change) => change.definitions.delete(family));
      }
    }
    await this.#delete([...new Set([...inactive, ...(await this.#inactive(signal))])], signal);
  }

  /** The ARN of a definition, once for all who ask for it at a time; if the start of the first is given up, the next asks. */
  async #shared(definition: Definition, signal: AbortSignal): Promise<string> {
    const { family } = definition;
    const known = this.#arns.get(family);
    if (known === undefined) {
      const arn = this.#find(definition, signal);
      this.#arns.set(family, { arn, signal });
      arn.catch(() => this.#arns.delete(family));
      return await arn;
    }
    try {
      return await unlessAborted(signal, known.arn);
    } catch (error) {
      if (known.signal.aborted && !signal.aborted) {
        return await this.#shared(definition, signal);
      }
      throw error;
    }
  }

  async #find(definition: Definition, signal: AbortSignal): Promise<string> {
    const { state } = this.#options;
    const { family } = definition;
    const known = state.definitions.get(family)?.arn;
    if (known !== undefined) {
      return known;
    }
    return (await this.#registered(family, signal)) ?? (await this.#register(definition, signal));
  }

  /** The ARN of a definition in AWS; undefined if there is none that can be used. */
  async #registered(family: string, signal: AbortSignal): Promise<string | undefined> {
    const { ecs, logger } = this.#options;
    try {
      const { taskDefinition } = await ecs.send(
        new DescribeTaskDefinitionCommand({ taskDefinition: family }),
        { abortSignal: signal },
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

  async #register(definition: Definition, signal: AbortSignal): Promise<string> {
    const { ecs } = this.#options;
    const command = new RegisterTaskDefinitionCommand(definition);
    const { taskDefinition } = await ecs.send(command, { abortSignal: signal });
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

  async #delete(arns: readonly string[], signal: AbortSignal): Promise<void> {
    const { ecs, logger } = this.#options;
    for (let from = 0; from < arns.length; from += mostDeleted) {
      const taskDefinitions = arns.slice(from, from + mostDeleted);
      const { failures = [] } = await ecs.send(new DeleteTaskDefinitionsCommand({ taskDefinitions }), {
        abortSignal: signal,
      });
      const refused = failures.map(({ arn, reason }) => `${arn}: ${reason}`).join("; ");
      if (refused === "") {
        logger.info({ definitions: taskDefinitions }, "deleted deregistered task definitions");
      } else {
        logger.warn({ definitions: taskDefinitions }, `cannot delete task definitions: ${refused}`);
      }
    }
  }

  /** The ARNs of this instance's deregistered definitions, of families without a registered one. */
  async #inactive(signal: AbortSignal): Promise<string[]> {
    const { ecs, instance } = this.#options;
    const found: string[] = [];
    const prefix = familyPrefixOf(instance);
    const input = { familyPrefix: prefix, status: "INACTIVE", maxResults: pageSize } as const;
    const pages = pagesOf(
      (nextToken) =>
        ecs.send(new ListTaskDefinitionFamiliesCommand({ ...input, nextToken }), { abortSignal: signal }),
      (page) => page.nextToken,
    );
    for await (const { families = [] } of pages) {
      for (const familyPrefix of families) {
        for await (const arn of this.#arnsOf({ status: "INACTIVE", familyPrefix }, signal)) {
          found.push(arn);
        }
      }
    }
    return found;
  }

  /** @param input AWS's `familyPrefix` is the complete name of a family */
  async *#arnsOf(
    input: Pick<ListTaskDefinitionsCommandInput, "status" | "familyPrefix">,
    signal: AbortSignal,
  ): AsyncGenerator<string> {
    const { ecs } = this.#options;
    const pages = pagesOf(
      (nextToken) =>
        ecs.send(new ListTaskDefinitionsCommand({ ...input, maxResults: pageSize, nextToken }), {
          abortSignal: signal,
        }),
      (page) => page.nextToken,
    );
    for await (const { taskDefinitionArns = [] } of pages) {
      yield* taskDefinitionArns;
    }
  }

  /** The ARNs of this instance's definitions by family, beginning with the one known here, or else the newest. */
  async #list(signal: AbortSignal): Promise<Map<string, string[]>> {
    const { instance, state } = this.#options;
    const prefix = familyPrefixOf(instance);
    const found = new Map<string, string[]>();
    for await (const arn of this.#arnsOf({ status: "ACTIVE" }, signal)) {
      const family = familyOf(arn);
      if (family.startsWith(prefix)) {
        const others = found.get(family) ?? [];
        const isKnown = state.definitions.get(family)?.arn === others[0];
        found.set(family, isKnown && others.length > 0 ? [...others, arn] : [arn, ...others]);
      }
    }
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
export function familyOf(arn: string): string {
  return arn.slice(arn.lastIndexOf("/") + 1).replace(/:\d+$/, "");
}
