/** The image that a task pulls. Pure. */
import type { ContainerDefinition } from "@aws-sdk/client-ecs";

import { conflict } from "../../../common/errors.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { parseNamed } from "../../images/reference.ts";

/** An image in a task definition. */
export interface TaskImage {
  /** The image's name with its digest. */
  readonly reference: string;
  /** ARN of the secret for pulling it. */
  readonly credentialsArn: string | undefined;
}

/** Settings for registries, each `host=value` as configured. */
export interface TaskImageSettings {
  readonly registryCredentials: readonly string[];
  readonly pullThroughCaches: readonly string[];
}

/**
 * The image for a task definition: from a pull-through cache if one is configured for the registry, else from the
 * registry itself with the configured secret.
 *
 * @throws conflict: the image has been removed, and no reference to pull is known
 */
export function taskImageOf(
  image: Pick<ImageRecord, "id" | "driverReference">,
  settings: TaskImageSettings,
): TaskImage {
  if (image.driverReference === "") {
    throw conflict(`image ${image.id} has been removed: a container of it cannot be started any more`);
  }
  const { domain } = parseNamed(image.driverReference);
  const cache = settingOf(domain, settings.pullThroughCaches);
  const reference =
    cache === undefined
      ? image.driverReference
      : `${cache.replace(/\/+$/, "")}${image.driverReference.slice(domain.length)}`;
  return { reference, credentialsArn: settingOf(parseNamed(reference).domain, settings.registryCredentials) };
}

/** The part of a container's definition with the secret for pulling its image. */
export function repositoryCredentials({
  credentialsArn,
}: TaskImage): Pick<ContainerDefinition, "repositoryCredentials"> {
  return credentialsArn === undefined
    ? {}
    : { repositoryCredentials: { credentialsParameter: credentialsArn } };
}

function settingOf(host: string, settings: readonly string[]): string | undefined {
  const found = settings.find((setting) => setting.slice(0, setting.indexOf("=")) === host);
  return found?.slice(host.length + 1);
}
