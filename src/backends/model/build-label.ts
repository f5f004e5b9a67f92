/**
 * Objects of builds, hidden from users: the containers of steps, and images of intermediate states. Containers are
 * known by their label, which no user's container can have; images by their records, as any image may bring any label.
 */
import { buildLabel } from "../../common/build-label.ts";
import type { StringList } from "../../gen/sockerless/backend/v1/config_pb.ts";

/** Whether the labels are those of a build's container. */
export function isOfBuild(labels: Readonly<Record<string, string>>): boolean {
  return Object.hasOwn(labels, buildLabel);
}

/** An image's labels for its containers, without the build label: an image cannot mark its containers as a build's. */
export function withoutBuildLabel(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).filter(([name]) => name !== buildLabel));
}

/** Whether a listing's filters include builds' objects. */
export function asksForBuilds(filters: Readonly<Record<string, StringList>>): boolean {
  return filters["label"]?.values.some((value) => value.split("=", 1)[0] === buildLabel) === true;
}
