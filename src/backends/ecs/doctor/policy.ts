/** The requests that the documented policy allows the backend, in terms of IAM. */
import document from "./backend-policy.json" with { type: "json" };
import { repositoryNameOf } from "../ecr/repository.ts";
import type { ExaminedSection, Surroundings } from "./surroundings.ts";

interface Statement {
  readonly Sid: string;
  readonly Action: string | readonly string[];
  readonly Resource: string | readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;
}

/** Requests of one statement about one resource. */
export interface PolicyRequest {
  /** The statement's name. */
  readonly sid: string;
  readonly actions: readonly string[];
  /** An ARN, or `*` for actions without resource level. */
  readonly resource: string;
  /** Values by condition key. */
  readonly context: Readonly<Record<string, readonly string[]>>;
}

const statements: readonly Statement[] = document.Statement;

/** Statements that some configurations do not need. */
const optional: Readonly<Record<string, (config: ExaminedSection) => boolean>> = {
  FileSystem: ({ efsFilesystemId }) => efsFilesystemId !== undefined,
  TagNewVolumes: ({ efsFilesystemId }) => efsFilesystemId !== undefined,
  Volumes: ({ efsFilesystemId }) => efsFilesystemId !== undefined,
  VolumesInNetworks: ({ efsSecurityGroupId }) => efsSecurityGroupId !== undefined,
  NewNames: ({ cloudMapNamespaceId }) => cloudMapNamespaceId !== undefined,
  TagNewNames: ({ cloudMapNamespaceId }) => cloudMapNamespaceId !== undefined,
  Names: ({ cloudMapNamespaceId }) => cloudMapNamespaceId !== undefined,
  NamesInDns: ({ cloudMapNamespaceId }) => cloudMapNamespaceId !== undefined,
  TagClaimedTasks: ({ pool }) => pool.mode !== "off",
  Images: ({ ecrRepository }) => ecrRepository !== undefined,
};

/** Statements that a configuration needs. */
function needed(config: ExaminedSection): Statement[] {
  return statements.filter(({ Sid }) => optional[Sid]?.(config) ?? true);
}

/** The actions without duplicates, sorted by name. */
export function neededActions(config: ExaminedSection): string[] {
  return [...new Set(needed(config).flatMap(({ Action }) => Action))].sort();
}

/**
 * The requests of an action.
 *
 * @throws AwsError: its resources are unknown
 */
export async function requestsOf(
  action: string,
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<PolicyRequest[]> {
  const found = needed(surroundings.config).filter(({ Action }) => [Action].flat().includes(action));
  const requests = await Promise.all(found.map((each) => requestsIn(each, surroundings, signal)));
  return requests.flat();
}

async function requestsIn(
  { Sid, Action, Resource, Condition = {} }: Statement,
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<PolicyRequest[]> {
  const requests: PolicyRequest[] = [];
  for (const [index, pattern] of [Resource].flat().entries()) {
    const resource = await filled(pattern, surroundings, signal);
    if (resource === undefined) {
      continue; // Its resource is not configured.
    }
    const context: Record<string, readonly string[]> = {};
    for (const [operator, keys] of Object.entries(Condition)) {
      for (const [key, wanted] of Object.entries(keys)) {
        const values = await Promise.all([wanted].flat().map((value) => filled(value, surroundings, signal)));
        const known = values.filter((value) => value !== undefined);
        // The value that belongs to the resource: tags of a definition, or of its task.
        context[key] = operator === "Null" ? [sample] : known.slice(index % known.length).slice(0, 1);
      }
    }
    const concrete = resource === "*" ? "*" : resource.replaceAll("*", sample);
    requests.push({ sid: Sid, actions: [Action].flat(), resource: concrete, context });
  }
  return requests;
}

/** A name that stands for any other. */
const sample = "1";

const fillings: Readonly<
  Record<string, (surroundings: Surroundings, signal: AbortSignal) => Promise<string> | string | undefined>
> = {
  partition: async ({ caller }, signal) => (await caller(signal)).partition,
  account: async ({ caller }, signal) => (await caller(signal)).account,
  region: ({ config }) => config.region,
  cluster: ({ config }) => afterLast("/", config.cluster),
  "execution-role": ({ config }) => roleName(config.executionRoleArn),
  "task-role": ({ config }) => config.taskRoleArn && roleName(config.taskRoleArn),
  vpc: ({ vpc }, signal) => vpc(signal),
  "efs-filesystem": ({ config }) => config.efsFilesystemId,
  "efs-security-group": ({ config }) => config.efsSecurityGroupId,
  "log-group": ({ config }) => config.logGroup,
  "cloud-map-namespace": ({ config }) => config.cloudMapNamespaceId,
  "hosted-zone": async ({ namespace }, signal) =>
    (await namespace(signal))?.Properties?.DnsProperties?.HostedZoneId ?? "",
  "ecr-repository": ({ config }) => config.ecrRepository && repositoryNameOf(config.ecrRepository),
};

/** A text with its placeholders filled in; undefined if one refers to something that is not configured. */
async function filled(
  text: string,
  surroundings: Surroundings,
  signal: AbortSignal,
): Promise<string | undefined> {
  let whole = text;
  for (const [placeholder, name = ""] of text.matchAll(/<([a-z-]+)>/g)) {
    const value = await fillings[name]?.(surroundings, signal);
    if (value === undefined) {
      return undefined;
    }
    whole = whole.replace(placeholder, value);
  }
  return whole;
}

/** A role's name with its path. */
function roleName(arn: string): string {
  return arn.replace(/^.*?:role\//, "");
}

function afterLast(separator: string, text: string): string {
  return text.slice(text.lastIndexOf(separator) + 1);
}
