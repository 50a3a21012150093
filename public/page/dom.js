// Nodes, made in one line.

// A tag with classes, attributes and what is in it. Texts stay texts, never HTML.
export const make = (tag, name = '', attributes = {}, ...children) => {
  const node = document.createElement(tag);
  node.className = name;
  Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
};

// An icon of 24 by 24, drawn with lines as Chainlit's are (https://lucide.dev).
export const icon = (...paths) => {
  const space = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(space, 'svg');
  const looks = { viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', 'stroke-width': 2 };
  const ends = { 'stroke-linecap': 'round', 'stroke-linejoin': 'round', 'aria-hidden': 'true' };
  Object.entries({ ...looks, ...ends }).forEach(([key, value]) => svg.setAttribute(key, value));
  paths.forEach((d) => {
    const path = document.createElementNS(space, 'path');
    path.setAttribute('d', d);
    svg.append(path);
  });
  return svg;
};

// Load a page of this server from its beginning; whoever awaits it never goes on.
export const fresh = (path = '/') => {
  window.location.assign(path);
  return new Promise(() => {});
};
