/** The file systems of the account: directories on this machine, with access points and mount targets. */
import { chmodSync, chownSync, existsSync, mkdirSync, realpathSync } from "node:fs";
import { join } from "node:path";

import type { EfsMount, FileSystems, NetworkInterface, PosixUser } from "../../cloud.ts";
import { arnOf, type Context } from "../../context.ts";
import type { PolicyDocument, Role } from "../../iam/access.ts";
import { checkResourcePolicy, evaluateOnResource } from "../../iam/policy.ts";
import { resourceId } from "../../ids.ts";
import { AwsFault } from "../../wire/service.ts";
import type { Network } from "../ec2/network.ts";

/** How the directory of an access point is made at the first mount. */
export interface CreationInfo {
  readonly ownerUid: number;
  readonly ownerGid: number;
  /** Octal, such as `0755`. */
  readonly permissions: string;
}

/** An access point. */
export interface AccessPoint {
  readonly accessPointId: string;
  readonly fileSystemId: string;
  readonly clientToken: string;
  readonly path: string;
  readonly creationInfo: CreationInfo | undefined;
  readonly posixUser: PosixUser | undefined;
  /** Simulated milliseconds since the epoch, when it is `available`. */
  readonly availableAt: number;
  tags: Readonly<Record<string, string>>;
}

/** A mount target: the file system's interface in a subnet. */
export interface MountTarget {
  readonly mountTargetId: string;
  readonly fileSystemId: string;
  readonly networkInterface: NetworkInterface;
}

/** A file system. */
export interface FileSystem {
  readonly fileSystemId: string;
  readonly name: string;
  readonly createdAt: Date;
  /** Path of its files on this machine. */
  readonly directory: string;
  /** The policy for its clients; undefined: everybody may do everything, as in a new file system. */
  policy: PolicyDocument | undefined;
  tags: Readonly<Record<string, string>>;
}

type MountRequest = Parameters<FileSystems["mount"]>[0];

const nfsPort = 2049;
/** The policy of a file system that was given none. */
const defaultPolicy: PolicyDocument = {
  Statement: [{ Effect: "Allow", Principal: "*", Action: "elasticfilesystem:Client*", Resource: "*" }],
};
const noCredentials =
  "AWS Access Key ID and Secret Access Key are not found in AWS credentials file (/root/.aws/credentials), config file (/root/.aws/config), from ECS credentials relative uri, or from the instance security credentials service";
const accessDenied = "mount.nfs4: access denied by server while mounting 127.0.0.1:/";

/** All file systems. */
export class EfsState implements FileSystems {
  readonly #context: Context;
  readonly #network: Network;
  readonly #fileSystems = new Map<string, FileSystem>();
  readonly #accessPoints = new Map<string, AccessPoint>();
  readonly #mountTargets: MountTarget[] = [];

  constructor(context: Context, network: Network) {
    this.#context = context;
    this.#network = network;
  }

  /** Makes a file system with a mount target of these groups in every subnet of the VPC. */
  createFileSystem(name: string, groupIds: readonly string[]): FileSystem {
    const fileSystemId = resourceId("fs");
    const directory = join(this.#context.directory, "efs", fileSystemId);
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    const made: FileSystem = {
      fileSystemId,
      name,
      createdAt: this.#context.clock.now(),
      directory,
      policy: undefined,
      tags: { Name: name },
    };
    this.#fileSystems.set(fileSystemId, made);
    for (const { subnetId } of this.#network.subnets()) {
      const mountTargetId = resourceId("fsmt");
      const description = `EFS mount target for ${fileSystemId} (${mountTargetId})`;
      const networkInterface = this.#network.createInterface({ subnetId, groupIds, description });
      this.#mountTargets.push({ mountTargetId, fileSystemId, networkInterface });
    }
    return made;
  }

  fileSystems(): readonly FileSystem[] {
    return [...this.#fileSystems.values()];
  }

  accessPoints(): readonly AccessPoint[] {
    return [...this.#accessPoints.values()];
  }

  mountTargets(): readonly MountTarget[] {
    return this.#mountTargets;
  }

  /**
   * Gives a file system a policy.
   *
   * @throws Error for a document that uses what is not evaluated
   */
  setPolicy(fileSystemId: string, policy: PolicyDocument | undefined): void {
    if (policy !== undefined) {
      checkResourcePolicy(policy);
    }
    this.fileSystem(fileSystemId).policy = policy;
  }

  /** Takes a file system's mount target out of a subnet. */
  removeMountTarget(mountTargetId: string): void {
    const index = this.#mountTargets.findIndex((each) => each.mountTargetId === mountTargetId);
    const [removed] = index < 0 ? [] : this.#mountTargets.splice(index, 1);
    if (removed !== undefined) {
      this.#network.deleteInterface(removed.networkInterface.networkInterfaceId);
    }
  }

  /** @throws AwsFault `FileSystemNotFound` */
  fileSystem(idOrArn: string): FileSystem {
    const fileSystemId = withoutArn(idOrArn);
    const found = this.#fileSystems.get(fileSystemId);
    if (found === undefined) {
      throw new AwsFault("FileSystemNotFound", `File system '${fileSystemId}' does not exist.`);
    }
    return found;
  }

  /** @throws AwsFault `AccessPointNotFound` */
  accessPoint(idOrArn: string): AccessPoint {
    const accessPointId = withoutArn(idOrArn);
    const found = this.#accessPoints.get(accessPointId);
    if (found === undefined) {
      throw new AwsFault("AccessPointNotFound", `Access point ${accessPointId} does not exist.`);
    }
    return found;
  }

  add(accessPoint: AccessPoint): void {
    this.#accessPoints.set(accessPoint.accessPointId, accessPoint);
  }

  /** Deletes an access point; the files stay. */
  delete({ accessPointId }: AccessPoint): void {
    this.#accessPoints.delete(accessPointId);
  }

  isAvailable({ availableAt }: AccessPoint): boolean {
    return this.#context.clock.nowMs() >= availableAt;
  }

  fileSystemArn(fileSystemId: string): string {
    return arnOf(this.#context, "elasticfilesystem", `file-system/${fileSystemId}`);
  }

  accessPointArn(accessPointId: string): string {
    return arnOf(this.#context, "elasticfilesystem", `access-point/${accessPointId}`);
  }

  mount(request: MountRequest): EfsMount {
    const fileSystem = this.#reach(request.fileSystemId, request.networkInterface);
    const accessPoint =
      request.accessPointId === undefined
        ? undefined
        : this.#openAccessPoint(fileSystem, request.accessPointId);
    if ((accessPoint !== undefined || request.iamEnabled) && !request.transitEncryption) {
      throw mountFailure("mount.nfs4: access points and IAM authorization need encryption in transit");
    }
    const client = this.#client(request);
    const allowed = (action: string): boolean => this.#may(client, action, fileSystem, accessPoint, request);
    if (!allowed("ClientMount")) {
      throw mountFailure(accessDenied);
    }
    const root = join(fileSystem.directory, accessPoint?.path ?? "/");
    const hostDirectory = join(root, request.rootDirectory ?? "/");
    if (accessPoint?.creationInfo !== undefined && !existsSync(root)) {
      makeRoot(root, accessPoint.creationInfo);
    }
    if (accessPoint !== undefined && !isDirectory(fileSystem.directory, accessPoint.path)) {
      throw mountFailure(accessDenied); // As people report it (aws/efs-utils#132); the documentation says that it fails.
    }
    if (!existsSync(hostDirectory)) {
      throw mountFailure(
        "mount.nfs4: mounting 127.0.0.1:/ failed, reason given by server: No such file or directory",
      );
    }
    return {
      hostDirectory,
      posixUser: accessPoint?.posixUser,
      rootSquash: !allowed("ClientRootAccess"),
      readOnly: !allowed("ClientWrite"),
    };
  }

  /** The file system, found and reached through the mount target in the task's zone. */
  #reach(fileSystemId: string, from: NetworkInterface): FileSystem {
    const fileSystem = this.#fileSystems.get(fileSystemId);
    const target = this.#mountTargets.find(
      (each) =>
        each.fileSystemId === fileSystemId &&
        each.networkInterface.subnet.availabilityZone === from.subnet.availabilityZone,
    );
    if (fileSystem === undefined || target === undefined) {
      const name = `${fileSystemId}.efs.${this.#context.region}.amazonaws.com`;
      throw mountFailure(
        `Failed to resolve "${name}" - check that your file system ID is correct, and ensure that the VPC has an EFS mount target for this file system ID.`,
      );
    }
    if (!this.#network.allows(from, target.networkInterface, nfsPort)) {
      throw mountFailure("mount.nfs4: Connection timed out");
    }
    return fileSystem;
  }

  #openAccessPoint({ fileSystemId }: FileSystem, accessPointId: string): AccessPoint {
    const found = this.#accessPoints.get(accessPointId);
    if (found?.fileSystemId !== fileSystemId || !this.isAvailable(found)) {
      throw mountFailure(accessDenied);
    }
    return found;
  }

  /** The role of a task that mounts with its rights; undefined: nobody. */
  #client({ iamEnabled, taskRoleArn }: MountRequest): Role | undefined {
    if (!iamEnabled) {
      return undefined;
    }
    const role = taskRoleArn === undefined ? undefined : this.#context.iam.role(taskRoleArn);
    if (role === undefined) {
      throw mountFailure(noCredentials);
    }
    return role;
  }

  /** Whether the file system's policy, and those of the client, allow an action. */
  #may(
    client: Role | undefined,
    action: string,
    { policy = defaultPolicy, fileSystemId }: FileSystem,
    accessPoint: AccessPoint | undefined,
    { transitEncryption }: MountRequest,
  ): boolean {
    const context = {
      "elasticfilesystem:AccessedViaMountTarget": "true",
      "aws:SecureTransport": String(transitEncryption),
      ...(accessPoint === undefined
        ? {}
        : { "elasticfilesystem:AccessPointArn": this.accessPointArn(accessPoint.accessPointId) }),
    };
    const verdict = evaluateOnResource(policy, client, {
      action: `elasticfilesystem:${action}`,
      resource: this.fileSystemArn(fileSystemId),
      context,
    });
    return verdict === "allowed";
  }
}

/** Whether a path is a directory of a file system. No link is followed: its target is a path of the client's. */
function isDirectory(root: string, path: string): boolean {
  const directory = join(root, path);
  return (
    existsSync(directory) &&
    realpathSync(directory) === join(realpathSync(root), path).replace(/(.)\/+$/, "$1")
  );
}

/** The failure of a mount, in the words of the programs that mount for ECS. */
function mountFailure(reason: string): Error {
  return new Error(`stderr: ${reason} : unsuccessful EFS utils command execution; code: 32`);
}

function makeRoot(directory: string, { ownerUid, ownerGid, permissions }: CreationInfo): void {
  mkdirSync(directory, { recursive: true, mode: 0o755 });
  chmodSync(directory, Number.parseInt(permissions, 8));
  chownSync(directory, ownerUid, ownerGid);
}

/** The ID in an ARN; IDs may be given as ARNs. */
export function withoutArn(idOrArn: string): string {
  return idOrArn.slice(idOrArn.lastIndexOf("/") + 1);
}
