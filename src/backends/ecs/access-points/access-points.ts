/** Access points of one EFS file system. */
import { createHash } from "node:crypto";

import {
  type AccessPointDescription,
  CreateAccessPointCommand,
  type CreateAccessPointCommandInput,
  DeleteAccessPointCommand,
  DescribeAccessPointsCommand,
  type EFSClient,
  LifeCycleState,
} from "@aws-sdk/client-efs";

import type { Clock } from "../../../common/clock.ts";
import { ignoring, systemError } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import type { VolumeRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { type UnsettledError, unsettled } from "../../driver/unsettled-error.ts";
import type { AwsService } from "../aws/clients.ts";
import { isRefusal } from "../../cloud/contract/cloud-error.ts";
import { type AwsError, isAwsError } from "../aws/errors.ts";
import type { VolumeOptions } from "./options.ts";
import type { VolumeDirectory } from "./parts.ts";
import { accessPointPath } from "./path.ts";
import { partTags, volumeTags } from "./volume-tags.ts";
import { pauseAfter } from "../../../common/pauses.ts";
import { pagesOf } from "../../cloud/calls/pages.ts";

/** Settings and dependencies of {@link AccessPoints}. */
export interface AccessPointsOptions {
  readonly efs: AwsService<EFSClient>;
  readonly fileSystemId: string;
  readonly instance: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Time until a new access point can be mounted. */
const availableWithinMs = 60_000;
const pauses = { firstMs: 100, longestMs: 2_000 };

/** The access points of the configured file system. */
export class AccessPoints {
  readonly #options: AccessPointsOptions;

  constructor(options: AccessPointsOptions) {
    this.#options = options;
  }

  /**
   * Creates the access point of a volume, or reuses an earlier attempt's, and waits until it can be mounted. A failure
   * leaves none that this call has made, unless it is an {@link UnsettledError}.
   *
   * @returns its ID
   * @throws AwsError; UnsettledError: it may have been created, was there before, or could not be removed; system: it
   *   does not become available
   */
  async create(volume: VolumeRecord, settings: VolumeOptions): Promise<string> {
    const { instance, logger } = this.#options;
    return await this.#create({
      ...this.#common(settings),
      ClientToken: clientToken(instance, volume),
      RootDirectory: {
        Path: accessPointPath(volume),
        CreationInfo: { OwnerUid: 0, OwnerGid: 0, Permissions: "0755" },
      },
      Tags: volumeTags(volume, instance, logger),
    });
  }

  /** Like {@link create}, for a directory of a volume; can be mounted only while the directory exists. */
  async createPart(part: VolumeDirectory, settings: VolumeOptions): Promise<string> {
    const { efs, instance } = this.#options;
    const answer = await efs.send(new DescribeAccessPointsCommand({ AccessPointId: part.wholeId }));
    const whole = answer.AccessPoints?.[0]?.RootDirectory?.Path; // Earlier versions gave some volumes another one.
    return await this.#create({
      ...this.#common(settings),
      ClientToken: clientToken(instance, part.volume, part.subpath),
      RootDirectory: { Path: whole === undefined ? part.path : `${whole}/${part.subpath}` },
      Tags: partTags(part, instance),
    });
  }

  #common({ posixUser }: VolumeOptions): Pick<CreateAccessPointCommandInput, "FileSystemId" | "PosixUser"> {
    return {
      FileSystemId: this.#options.fileSystemId,
      ...(posixUser === "root" ? { PosixUser: { Uid: 0, Gid: 0 } } : {}),
    };
  }

  async #create(request: CreateAccessPointCommandInput): Promise<string> {
    const made = await this.#make(request);
    try {
      await this.#available(made.id, made.state);
    } catch (error) {
      if (made.state === undefined) {
        throw unsettled(error); // It was there before this call, and may be in use.
      }
      await this.remove(made.id).catch((cause: unknown) => {
        this.#options.logger.warn({ err: cause, accessPoint: made.id }, "an access point is left behind");
        throw unsettled(error);
      });
      throw error;
    }
    return made.id;
  }

  /** Deletes an access point; no error if it is gone. The directory stays. @throws AwsError */
  async remove(accessPointId: string): Promise<void> {
    await this.#options.efs
      .send(new DeleteAccessPointCommand({ AccessPointId: accessPointId }))
      .catch(ignoring((error) => isAwsError(error, "AccessPointNotFound")));
  }

  /** Lists all access points of the file system, including others'. @throws AwsError */
  async list(): Promise<AccessPointDescription[]> {
    const found: AccessPointDescription[] = [];
    const { efs, fileSystemId } = this.#options;
    const pages = pagesOf(
      (NextToken) => efs.send(new DescribeAccessPointsCommand({ FileSystemId: fileSystemId, NextToken })),
      (page) => page.NextToken,
    );
    for await (const { AccessPoints = [] } of pages) {
      found.push(...AccessPoints);
    }
    return found;
  }

  /** @returns the state of a new access point; undefined if it was there */
  async #make(
    request: CreateAccessPointCommandInput,
  ): Promise<{ readonly id: string; readonly state: LifeCycleState | undefined }> {
    try {
      const made = await this.#options.efs.send(new CreateAccessPointCommand(request));
      return { id: made.AccessPointId ?? "", state: made.LifeCycleState ?? LifeCycleState.CREATING };
    } catch (error) {
      if (!isAwsError(error, "AccessPointAlreadyExists")) {
        // Only a refusal is certain: after any other failure, including an aborted call, AWS may have created it.
        throw isRefusal(error) ? error : unsettled(error);
      }
      return { id: existingId(error), state: undefined };
    }
  }

  async #available(id: string, known: LifeCycleState | undefined): Promise<void> {
    const { efs, clock } = this.#options;
    const deadline = clock.nowMs() + availableWithinMs;
    let state = known;
    for (let looks = 1; state !== LifeCycleState.AVAILABLE; looks++) {
      if (state === LifeCycleState.ERROR || clock.nowMs() > deadline) {
        throw systemError(
          `access point ${id} of the file system is ${state ?? "unknown"} and cannot be mounted`,
        );
      }
      if (state !== undefined) {
        await clock.sleep(pauseAfter(looks, pauses));
      }
      const answer = await efs.send(new DescribeAccessPointsCommand({ AccessPointId: id }));
      state = answer.AccessPoints?.[0]?.LifeCycleState ?? LifeCycleState.CREATING;
    }
  }
}

/** The idempotency token of a creation: equal for retries, different for a volume recreated after a removal. */
function clientToken(instance: string, { name, created }: VolumeRecord, ...part: string[]): string {
  const at = created === undefined ? "" : `${created.seconds}.${created.nanos}`;
  return createHash("sha256")
    .update([instance, name, at, ...part].join("\n"))
    .digest("hex");
}

function existingId(error: AwsError): string {
  const { AccessPointId: id } = error.cause as { readonly AccessPointId?: string };
  if (id === undefined) {
    throw systemError("AWS names no access point where it says that there is one", error);
  }
  return id;
}
