// Shows the page that the address names. nginx answers every address that is no file with index.html, so each can be
// reloaded and sent to others.

import { ask, newId } from './api.js';
import { element, link, list } from './dom.js';

const content = document.getElementById('content');
const status = document.getElementById('status');
const money = new Intl.NumberFormat(undefined, { style: 'currency', currency: 'EUR' });
const number = new Intl.NumberFormat();
const time = new Intl.DateTimeFormat(undefined, { dateStyle: 'long', timeStyle: 'medium' });

const PAGES = [
  [/^\/$/, home],
  [/^\/products\/(\d+)$/, product],
  [/^\/orders\/([0-9a-f-]{36})$/, order],
];

const price = (cents) => money.format(cents / 100);
const views = (count) => `seen ${number.format(count)} ${count === 1 ? 'time' : 'times'}`;

// Each page is { title, nodes }.

async function home() {
  const products = await ask('GET', '/api/products');
  const card = ({ id, name, description, price_cents, views: count }) => [
    element('h2', {}, link(`/products/${id}`, name)),
    element('p', {}, description),
    element('p', { class: 'facts' }, element('strong', {}, price(price_cents)), ' · ', views(count)),
  ];
  return { title: 'Tools for the forge', nodes: [list('products', products.map(card))] };
}

async function product(id) {
  const products = await ask('GET', '/api/products');
  const found = products.find((candidate) => candidate.id === Number(id));
  if (!found) {
    return missing();
  }
  // Nobody waits for it, and a view that cannot be counted is none of the visitor's trouble.
  ask('POST', '/api/views', { id: newId(), product: found.id }).catch(() => {});
  return {
    title: found.name,
    nodes: [
      element('p', {}, found.description),
      element('p', { class: 'facts' }, element('strong', {}, price(found.price_cents)), ' · ', views(found.views + 1)),
      orderForm(found),
    ],
  };
}

function orderForm({ id: productId }) {
  // One form is one order, however often it is sent.
  const id = newId();
  const quantity = element('input', {
    id: 'quantity', name: 'quantity', type: 'number', min: '1', max: '100', value: '1', required: '', inputmode: 'numeric',
  });
  const button = element('button', { type: 'submit' }, 'Order');
  const form = element('form', { id: 'order' },
    element('label', { for: 'quantity' }, 'Quantity'), quantity, button);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    button.disabled = true;
    tell('Placing the order …');
    try {
      await ask('POST', '/api/orders', { id, product: productId, quantity: quantity.valueAsNumber });
      go(`/orders/${id}`);
    } catch (error) {
      if (error.status === 409) {
        // An attempt that seemed to fail had placed it.
        go(`/orders/${id}`);
      } else {
        button.disabled = false;
        tell(error.message);
      }
    }
  });
  return form;
}

async function order(id) {
  try {
    const found = await ask('GET', `/api/orders/${id}`);
    const fact = (term, ...description) => [element('dt', {}, term), element('dd', {}, ...description)];
    return {
      title: 'Your order',
      nodes: [
        element('dl', {},
          ...fact('Product', link(`/products/${found.product_id}`, found.product_name)),
          ...fact('Quantity', number.format(found.quantity)),
          ...fact('Total', price(found.quantity * found.price_cents)),
          ...fact('Placed', element('time', { datetime: found.created_at }, time.format(new Date(found.created_at)))),
          ...fact('Number', element('code', {}, found.id))),
        element('p', {}, link('/', 'Back to the shop')),
      ],
    };
  } catch (error) {
    if (error.status === 404 || error.status === 400) {
      return missing();
    }
    throw error;
  }
}

function missing() {
  return {
    title: 'Not found',
    nodes: [element('p', {}, 'There is nothing at this address. ', link('/', 'Back to the shop'))],
  };
}

function failed(error) {
  const again = element('button', { type: 'button' }, 'Try again');
  again.addEventListener('click', () => show());
  return { title: 'The shop does not answer', nodes: [element('p', {}, error.message), again] };
}

function tell(text) {
  status.textContent = text;
}

let shown = 0;

async function show() {
  // The answer for a page that was left meanwhile is thrown away.
  const mine = ++shown;
  const first = mine === 1;
  content.setAttribute('aria-busy', 'true');
  const page = await pageOf(location.pathname).catch(failed);
  if (mine !== shown) {
    return;
  }
  const heading = element('h1', { tabindex: '-1' }, page.title);
  content.replaceChildren(heading, ...page.nodes);
  content.removeAttribute('aria-busy');
  document.title = `${page.title} - The smith's shop`;
  tell('');
  if (!first) {
    // What a browser does when it loads a page: screen readers begin there.
    heading.focus();
    scrollTo(0, 0);
  }
}

async function pageOf(path) {
  for (const [pattern, page] of PAGES) {
    const match = pattern.exec(path);
    if (match) {
      return page(...match.slice(1));
    }
  }
  return missing();
}

function go(path) {
  history.pushState(null, '', path);
  show();
}

document.addEventListener('click', (event) => {
  const anchor = event.target.closest('a');
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (anchor && plain && anchor.origin === location.origin && !anchor.hash) {
    event.preventDefault();
    go(anchor.pathname);
  }
});
addEventListener('popstate', () => {
  // Following a link within the page comes here, too, and shows nothing new.
  if (!location.hash) {
    show();
  }
});
show();
