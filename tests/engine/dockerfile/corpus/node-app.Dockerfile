# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM node:20-alpine AS deps
WORKDIR /usr/src/app
COPY package.json package-lock.json* ./
RUN --mount=type=cache,id=npm,target=/root/.npm npm ci --omit=dev

FROM --platform=$BUILDPLATFORM node:20-alpine AS build
WORKDIR /usr/src/app
COPY --from=deps /usr/src/app/node_modules ./node_modules
COPY . .
RUN npm run build -- --mode production

FROM node:20-alpine
ENV NODE_ENV production
WORKDIR /usr/src/app
COPY --from=deps --link /usr/src/app/node_modules ./node_modules
COPY --from=build /usr/src/app/dist ./dist
USER node
EXPOSE 3000
CMD [ "node", "dist/server.js" ]
