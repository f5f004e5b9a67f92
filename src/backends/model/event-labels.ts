/** Labels of objects in their events. */

/** The most characters of labels in an event: it is written with each, and sent to each client that follows. */
const mostCharacters = 65_536;

/** The labels that an object's events have: all of them, or none where they are long. */
export function eventLabels(labels: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  let characters = 0;
  for (const [name, value] of Object.entries(labels)) {
    characters += name.length + value.length;
    if (characters > mostCharacters) {
      return {};
    }
  }
  return labels;
}
