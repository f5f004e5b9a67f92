/** EFS: access points, and what there is to know about file systems and mount targets. */

import type { Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { resourceId } from "../../ids.ts";
import { AwsFault, operations, type ServiceHandler } from "../../wire/service.ts";
import { pagesOf } from "../pages.ts";
import { checkedTags, requestTagContext, resourceTagContext, tagList, tagMap } from "../tags.ts";
import { type AccessPoint, type EfsState, type MountTarget, withoutArn } from "./state.ts";

/** The simulated EFS. */
export function efsService(context: Context, state: EfsState): ServiceHandler {
  const { accountId } = context;

  const onFileSystem = (action: string, fileSystemId: string | undefined): AccessRequest[] => {
    const found = state.fileSystems().find((each) => each.fileSystemId === withoutArn(fileSystemId ?? ""));
    return [
      {
        action: `elasticfilesystem:${action}`,
        resource: fileSystemId === undefined ? "*" : state.fileSystemArn(withoutArn(fileSystemId)),
        context: resourceTagContext(found?.tags ?? {}),
      },
    ];
  };

  const onAccessPoint = (action: string, accessPointId: string): AccessRequest[] => {
    const found = state.accessPoints().find((each) => each.accessPointId === withoutArn(accessPointId));
    return [
      {
        action: `elasticfilesystem:${action}`,
        resource: state.accessPointArn(withoutArn(accessPointId)),
        context: resourceTagContext(found?.tags ?? {}),
      },
    ];
  };

  const shownAccessPoint = (accessPoint: AccessPoint) => ({
    AccessPointId: accessPoint.accessPointId,
    AccessPointArn: state.accessPointArn(accessPoint.accessPointId),
    ClientToken: accessPoint.clientToken,
    FileSystemId: accessPoint.fileSystemId,
    LifeCycleState: state.isAvailable(accessPoint) ? ("available" as const) : ("creating" as const),
    ...(accessPoint.tags["Name"] === undefined ? {} : { Name: accessPoint.tags["Name"] }),
    OwnerId: accountId,
    ...(accessPoint.posixUser === undefined
      ? {}
      : {
          PosixUser: {
            Uid: accessPoint.posixUser.uid,
            Gid: accessPoint.posixUser.gid,
            SecondaryGids: [...accessPoint.posixUser.secondaryGids],
          },
        }),
    RootDirectory: {
      Path: accessPoint.path,
      ...(accessPoint.creationInfo === undefined
        ? {}
        : {
            CreationInfo: {
              OwnerUid: accessPoint.creationInfo.ownerUid,
              OwnerGid: accessPoint.creationInfo.ownerGid,
              Permissions: accessPoint.creationInfo.permissions,
            },
          }),
    },
    Tags: tagList(accessPoint.tags),
  });

  const shownMountTarget = ({ mountTargetId, fileSystemId, networkInterface }: MountTarget) => ({
    MountTargetId: mountTargetId,
    FileSystemId: fileSystemId,
    SubnetId: networkInterface.subnet.subnetId,
    LifeCycleState: "available" as const,
    [networkInterface.privateIpAddress.includes(":") ? "Ipv6Address" : "IpAddress"]:
      networkInterface.privateIpAddress,
    NetworkInterfaceId: networkInterface.networkInterfaceId,
    AvailabilityZoneName: networkInterface.subnet.availabilityZone,
    VpcId: networkInterface.subnet.vpcId,
    OwnerId: accountId,
  });

  const mountTargetsOf = (fileSystemId: string): MountTarget[] =>
    state.mountTargets().filter((each) => each.fileSystemId === fileSystemId);

  const mountTarget = (mountTargetId: string): MountTarget => {
    const found = state.mountTargets().find((each) => each.mountTargetId === mountTargetId);
    if (found === undefined) {
      throw new AwsFault("MountTargetNotFound", `Mount target ${mountTargetId} does not exist.`);
    }
    return found;
  };

  return {
    name: "efs",
    codes: {
      invalid: "BadRequest",
      throttled: "ThrottlingException",
      throttledStatus: 429,
      denied: "AccessDeniedException",
      deniedStatus: 403,
      unknownKey: "UnrecognizedClientException",
      unknownKeyStatus: 403,
    },
    operations: operations<typeof import("@aws-sdk/client-efs")>({
      CreateAccessPoint: {
        access: ({ FileSystemId, Tags }) => {
          const tags = requestTagContext(tagMap(Tags));
          const create = onFileSystem("CreateAccessPoint", FileSystemId).map((request) => ({
            ...request,
            context: { ...request.context, ...tags },
          }));
          const tag = {
            action: "elasticfilesystem:TagResource",
            resource: state.accessPointArn("*"),
            context: { ...tags, "elasticfilesystem:CreateAction": "CreateAccessPoint" },
          };
          return Tags === undefined || Tags.length === 0 ? create : [...create, tag];
        },
        run: (input) => {
          const { fileSystemId } = state.fileSystem(input.FileSystemId ?? "");
          const clientToken = input.ClientToken ?? "";
          const existing = state.accessPoints().find((each) => each.clientToken === clientToken);
          if (existing !== undefined) {
            const message = `Access point already exists with the creation token ${clientToken}.`;
            const members = { AccessPointId: existing.accessPointId };
            throw new AwsFault("AccessPointAlreadyExists", message, undefined, members);
          }
          const siblings = state.accessPoints().filter((each) => each.fileSystemId === fileSystemId);
          if (siblings.length >= context.quotas.accessPointsPerFileSystem) {
            const message = `You have reached the maximum number of access points for ${fileSystemId}.`;
            throw new AwsFault("AccessPointLimitExceeded", message);
          }
          const { Path: path = "/", CreationInfo: info } = input.RootDirectory ?? {};
          if (path.includes("\\")) {
            throw new AwsFault("BadRequest", "Invalid path: a backslash is not allowed.");
          }
          const user = input.PosixUser;
          const made: AccessPoint = {
            accessPointId: resourceId("fsap"),
            fileSystemId,
            clientToken,
            path,
            creationInfo:
              info === undefined
                ? undefined
                : {
                    ownerUid: info.OwnerUid ?? 0,
                    ownerGid: info.OwnerGid ?? 0,
                    permissions: info.Permissions ?? "",
                  },
            posixUser:
              user === undefined
                ? undefined
                : { uid: user.Uid ?? 0, gid: user.Gid ?? 0, secondaryGids: user.SecondaryGids ?? [] },
            availableAt: context.clock.nowMs() + context.delays.accessPoint,
            tags: checkedTags(tagMap(input.Tags), "BadRequest"),
          };
          state.add(made);
          return shownAccessPoint(made);
        },
      },

      DescribeAccessPoints: {
        access: ({ AccessPointId, FileSystemId }) =>
          AccessPointId === undefined
            ? onFileSystem("DescribeAccessPoints", FileSystemId)
            : onAccessPoint("DescribeAccessPoints", AccessPointId),
        run: ({ AccessPointId, FileSystemId, MaxResults, NextToken }) => {
          if (AccessPointId !== undefined && FileSystemId !== undefined) {
            throw new AwsFault("BadRequest", "AccessPointId and FileSystemId exclude each other.");
          }
          if (AccessPointId !== undefined) {
            return { AccessPoints: [shownAccessPoint(state.accessPoint(AccessPointId))] };
          }
          const only = FileSystemId === undefined ? undefined : state.fileSystem(FileSystemId).fileSystemId;
          const found = state
            .accessPoints()
            .filter((each) => only === undefined || each.fileSystemId === only)
            .filter(({ availableAt }) => {
              const { clock, switches } = context;
              return (
                clock.nowMs() >= availableAt + switches.eventualConsistencyMs.efs ||
                availableAt > clock.nowMs()
              );
            });
          const { items, next } = requirePage(found, NextToken, MaxResults);
          return { AccessPoints: items.map(shownAccessPoint), NextToken: next };
        },
      },

      DeleteAccessPoint: {
        access: ({ AccessPointId }) => onAccessPoint("DeleteAccessPoint", AccessPointId ?? ""),
        run: ({ AccessPointId }) => {
          state.delete(state.accessPoint(AccessPointId ?? ""));
          return {};
        },
      },

      DescribeMountTargets: {
        access: ({ FileSystemId }) => onFileSystem("DescribeMountTargets", FileSystemId),
        run: ({ FileSystemId, MountTargetId, AccessPointId, MaxItems, Marker }) => {
          if (FileSystemId === undefined || MountTargetId !== undefined || AccessPointId !== undefined) {
            throw new AwsFault("BadRequest", "only mount targets of a file system are simulated", 501);
          }
          const { fileSystemId } = state.fileSystem(FileSystemId);
          const { items, next } = requirePage(mountTargetsOf(fileSystemId), Marker, MaxItems);
          return { MountTargets: items.map(shownMountTarget), NextMarker: next };
        },
      },

      DescribeMountTargetSecurityGroups: {
        access: ({ MountTargetId }) => {
          const target = state.mountTargets().find((each) => each.mountTargetId === MountTargetId);
          return onFileSystem("DescribeMountTargetSecurityGroups", target?.fileSystemId);
        },
        run: ({ MountTargetId }) => ({
          SecurityGroups: [...mountTarget(MountTargetId ?? "").networkInterface.groupIds],
        }),
      },
    }),
  };
}

/** A hundred a page where the request names no number. */
const requirePage = pagesOf("BadRequest", 100);
