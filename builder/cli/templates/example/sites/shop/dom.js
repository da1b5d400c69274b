// Elements without markup in strings: text stays text, whatever is in it.

/** An element with attributes and children, which are elements or text. */
export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** A link. */
export function link(href, text) {
  return element('a', { href }, text);
}

/** A list; each item is an array of children. */
export function list(className, items) {
  return element('ul', { class: className }, ...items.map((children) => element('li', {}, ...children)));
}
