// A part of a window: a heading, what it is about, and a line for how its buttons went.
import { button, notice, run } from './dialog.js';
import { make } from './dom.js';

export const section = (name, title) => {
  const { line, say } = notice();
  const heading = make('h3', 'box-heading', { id: `section-${name}`, tabindex: -1 }, title);
  const root = make('section', 'box-section', { 'aria-labelledby': heading.id, 'data-section': name }, heading);
  // A button that does some work; the line says how it went.
  const does = (label, kind, work) => {
    const node = button(label, kind, () => run(node, say, work));
    return node;
  };
  return { root, line, say, does };
};
