/** Secrets Manager, as far as registry credentials need it: text secrets and their current version. */
import { randomUUID } from "node:crypto";

import type {
  CreateSecretCommandInput,
  CreateSecretCommandOutput,
  DeleteSecretCommandInput,
  DeleteSecretCommandOutput,
  DescribeSecretCommandInput,
  DescribeSecretCommandOutput,
  GetSecretValueCommandInput,
  GetSecretValueCommandOutput,
  PutSecretValueCommandInput,
  PutSecretValueCommandOutput,
  TagResourceCommandInput,
  TagResourceCommandOutput,
} from "@aws-sdk/client-secrets-manager";

import type { Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, operation, type ServiceHandler } from "../../wire/service.ts";
import { requestTagContext, resourceTagContext, tagList, tagMap, tagViolation } from "../tags.ts";
import type { Secret, SecretState, SecretVersion } from "./state.ts";

const dayMs = 24 * 3_600_000;
const maxSecretBytes = 65_536;

/** The simulated Secrets Manager. */
export function secretsManagerService({ clock }: Context, state: SecretState): ServiceHandler {
  const on = (action: string, secretId: string, more: AccessRequest["context"] = {}): AccessRequest[] => [
    {
      action: `secretsmanager:${action}`,
      resource: state.arnFor(secretId),
      context: { ...resourceTagContext(state.find(secretId)?.tags ?? {}), ...more },
    },
  ];

  /** A version under a token is written once; the same again is no error. */
  const addVersion = (secret: Secret, token: string | undefined, text: string): SecretVersion => {
    const versionId = token ?? randomUUID();
    const existing = secret.versions.find((each) => each.versionId === versionId);
    if (existing !== undefined) {
      if (existing.text !== text) {
        const message = "You can't use ClientRequestToken with a different secret value.";
        throw new AwsFault("ResourceExistsException", message);
      }
      return existing;
    }
    const made = { versionId, text, createdAt: clock.now() };
    secret.versions.push(made);
    return made;
  };

  return {
    name: "secretsmanager",
    codes: {
      invalid: "ValidationException",
      throttled: "ThrottlingException",
      denied: "AccessDeniedException",
      unknownKey: "UnrecognizedClientException",
    },
    operations: {
      CreateSecret: operation<CreateSecretCommandInput, CreateSecretCommandOutput>({
        access: ({ Name = "", Tags }) => {
          const tags = requestTagContext(tagMap(Tags));
          const create = on("CreateSecret", Name, { ...tags, "secretsmanager:Name": Name });
          return Tags === undefined || Tags.length === 0
            ? create
            : [...create, ...on("TagResource", Name, tags)];
        },
        run: ({ Name = "", Description, SecretString, SecretBinary, Tags, ClientRequestToken }) => {
          if (!/^[A-Za-z0-9/_+=.@-]+$/.test(Name)) {
            const message =
              "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!";
            throw new AwsFault("ValidationException", message);
          }
          const text = textOf(SecretString, SecretBinary);
          const tags = checkedTags(tagMap(Tags));
          const existing = state.find(Name);
          if (existing?.deletedAt !== undefined) {
            const message =
              "You can't create this secret because a secret with this name is already scheduled for deletion.";
            throw new AwsFault("InvalidRequestException", message);
          }
          const isReplay = existing?.versions.some(({ versionId }) => versionId === ClientRequestToken);
          if (existing !== undefined && isReplay !== true) {
            const message = `The operation failed because the secret ${Name} already exists.`;
            throw new AwsFault("ResourceExistsException", message);
          }
          const secret = existing ?? state.create(Name, Description, tags);
          const version = text === undefined ? undefined : addVersion(secret, ClientRequestToken, text);
          return { ARN: secret.arn, Name, VersionId: version?.versionId };
        },
      }),

      PutSecretValue: operation<PutSecretValueCommandInput, PutSecretValueCommandOutput>({
        access: ({ SecretId = "" }) => on("PutSecretValue", SecretId),
        run: ({ SecretId = "", SecretString, SecretBinary, ClientRequestToken }) => {
          const secret = state.getUsable(SecretId);
          const text = textOf(SecretString, SecretBinary);
          if (text === undefined) {
            const message = "You must provide either SecretString or SecretBinary.";
            throw new AwsFault("InvalidRequestException", message);
          }
          const { versionId } = addVersion(secret, ClientRequestToken, text);
          return { ARN: secret.arn, Name: secret.name, VersionId: versionId, VersionStages: ["AWSCURRENT"] };
        },
      }),

      GetSecretValue: operation<GetSecretValueCommandInput, GetSecretValueCommandOutput>({
        access: ({ SecretId = "" }) => on("GetSecretValue", SecretId),
        run: ({ SecretId = "", VersionId, VersionStage = "AWSCURRENT" }) => {
          const secret = state.getUsable(SecretId);
          const version =
            VersionId === undefined
              ? secret.versions.at(VersionStage === "AWSPREVIOUS" ? -2 : -1)
              : secret.versions.find(({ versionId }) => versionId === VersionId);
          if (version === undefined) {
            const message = `Secrets Manager can't find the specified secret value for staging label: ${VersionStage}`;
            throw new AwsFault("ResourceNotFoundException", message);
          }
          return {
            ARN: secret.arn,
            Name: secret.name,
            VersionId: version.versionId,
            SecretString: version.text,
            VersionStages: [VersionStage],
            CreatedDate: version.createdAt,
          };
        },
      }),

      DescribeSecret: operation<DescribeSecretCommandInput, DescribeSecretCommandOutput>({
        access: ({ SecretId = "" }) => on("DescribeSecret", SecretId),
        run: ({ SecretId = "" }) => {
          const secret = state.get(SecretId);
          const stages = secret.versions
            .slice(-2)
            .reverse()
            .map(({ versionId }, index): [string, string[]] => [
              versionId,
              [index === 0 ? "AWSCURRENT" : "AWSPREVIOUS"],
            ]);
          return {
            ARN: secret.arn,
            Name: secret.name,
            Description: secret.description,
            CreatedDate: secret.createdAt,
            LastChangedDate: secret.versions.at(-1)?.createdAt ?? secret.createdAt,
            DeletedDate: secret.deletedAt,
            Tags: tagList(secret.tags),
            VersionIdsToStages: Object.fromEntries(stages),
          };
        },
      }),

      DeleteSecret: operation<DeleteSecretCommandInput, DeleteSecretCommandOutput>({
        access: ({ SecretId = "" }) => on("DeleteSecret", SecretId),
        run: ({ SecretId = "", RecoveryWindowInDays, ForceDeleteWithoutRecovery = false }) => {
          if (ForceDeleteWithoutRecovery && RecoveryWindowInDays !== undefined) {
            const message =
              "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.";
            throw new AwsFault("InvalidParameterException", message);
          }
          const days = RecoveryWindowInDays ?? 30;
          if (days < 7 || days > 30) {
            const message = "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).";
            throw new AwsFault("InvalidParameterException", message);
          }
          const secret = state.getUsable(SecretId);
          const delayMs = ForceDeleteWithoutRecovery ? 0 : days * dayMs;
          secret.deletedAt = new Date(clock.nowMs() + delayMs);
          if (ForceDeleteWithoutRecovery) {
            state.delete(secret);
          } else {
            clock.after(delayMs, () => state.delete(secret));
          }
          return { ARN: secret.arn, Name: secret.name, DeletionDate: secret.deletedAt };
        },
      }),

      TagResource: operation<TagResourceCommandInput, TagResourceCommandOutput>({
        access: ({ SecretId = "", Tags }) => on("TagResource", SecretId, requestTagContext(tagMap(Tags))),
        run: ({ SecretId = "", Tags }) => {
          const secret = state.getUsable(SecretId);
          secret.tags = checkedTags({ ...secret.tags, ...tagMap(Tags) });
          return {};
        },
      }),
    },
  };
}

/** @throws AwsFault for a binary secret, of which there are none here */
function textOf(text: string | undefined, binary: Uint8Array | undefined): string | undefined {
  if (binary !== undefined) {
    throw new AwsFault("InvalidParameterException", "binary secrets are not simulated", 501);
  }
  if (text !== undefined && Buffer.byteLength(text) > maxSecretBytes) {
    throw new AwsFault("ValidationException", `SecretString is longer than ${maxSecretBytes} bytes`);
  }
  return text;
}

function checkedTags(tags: Record<string, string>): Record<string, string> {
  const violation = tagViolation(tags);
  if (violation !== undefined) {
    throw new AwsFault("InvalidParameterException", violation);
  }
  return tags;
}
