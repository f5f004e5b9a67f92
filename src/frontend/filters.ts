/** The `filters` of a list, of events and of a prune. */
import { create } from "@bufbuild/protobuf";

import { invalid } from "../common/errors.ts";
import { type StringList, StringListSchema } from "../gen/sockerless/backend/v1/config_pb.ts";

/** Filters as the backend takes them: values by key. */
export type FilterValues = Record<string, StringList>;

/**
 * Maximum number of values in all filters together: each is compared with every object, some as a regular expression.
 */
const maxFilterValues = 2048;
const maxFilterChars = 128 * 1024;

/**
 * Reads the query's `filters`: `{"key": {"value": true}}` or `{"key": ["value"]}`.
 *
 * @param accepted the valid keys; undefined: any, which the backend judges
 * @param unreadable the error message for malformed JSON
 * @throws SockerlessError of kind `invalid` in dockerd's words
 */
export function readFilters(
  query: URLSearchParams,
  accepted?: readonly string[],
  unreadable = "invalid filter",
): FilterValues {
  const source = query.get("filters") ?? "";
  if (source === "") {
    return {};
  }
  if (source.length > maxFilterChars) {
    throw invalid(`invalid filter: longer than ${maxFilterChars} characters`);
  }
  let value: unknown;
  try {
    value = JSON.parse(source);
  } catch (error) {
    throw invalid(unreadable, error);
  }
  if (value === null) {
    return {};
  }
  if (typeof value !== "object" || Array.isArray(value)) {
    throw invalid(unreadable);
  }
  const keys = Object.keys(value);
  if (keys.length > maxFilterValues) {
    throw invalid(`invalid filter: more than ${maxFilterValues} keys`);
  }
  const entries = Object.entries(value).map(
    ([key, each]) => [key, create(StringListSchema, { values: valuesOf(each, unreadable) })] as const,
  );
  const unknown = keys.find((key) => accepted !== undefined && !accepted.includes(key));
  if (unknown !== undefined) {
    throw invalid(`invalid filter '${unknown}'`);
  }
  if (entries.reduce((sum, [, { values }]) => sum + values.length, 0) > maxFilterValues) {
    throw invalid(`invalid filter: more than ${maxFilterValues} values`);
  }
  return Object.fromEntries(entries);
}

function valuesOf(value: unknown, unreadable: string): string[] {
  if (value === null) {
    return [];
  }
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) {
    return [...new Set(value)];
  }
  if (typeof value === "object" && !Array.isArray(value)) {
    const entries = Object.entries(value);
    if (entries.every(([, given]) => typeof given === "boolean")) {
      return entries.map(([each]) => each); // Keys that are set to false count too: dockerd looks at the keys alone.
    }
  }
  throw invalid(unreadable);
}
