/** How a task pulls an image. Pure. */
import type { ContainerDefinition } from "@aws-sdk/client-ecs";

import { conflict } from "../../../common/errors.ts";
import type { ImageRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { parseNamed } from "../../images/reference.ts";

/** An image as a task definition names it. */
export interface TaskImage {
  /** The image's name with its digest. */
  readonly reference: string;
  /** ARN of the secret with which it is pulled. */
  readonly credentialsArn: string | undefined;
}

/** Settings of registries, each `host=value` as the configuration has them. */
export interface TaskImageSettings {
  readonly registryCredentials: readonly string[];
  readonly pullThroughCaches: readonly string[];
}

/**
 * The image as a definition names it: in a pull-through cache if one is configured for the registry, else in the
 * registry itself, with the secret that is configured for it.
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

/** The part of a container's definition that names the secret with which its image is pulled. */
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
