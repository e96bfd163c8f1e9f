ARG REPO=mcr.microsoft.com/dotnet
ARG TAG=8.0
FROM $REPO/sdk:$TAG AS build
WORKDIR /source
COPY *.sln .
COPY aspnetapp/*.csproj ./aspnetapp/
RUN dotnet restore
COPY aspnetapp/. ./aspnetapp/
WORKDIR /source/aspnetapp
RUN dotnet publish -c release -o /app --no-restore
FROM ${REPO}/aspnet:${TAG:-8.0}
WORKDIR /app
COPY --from=build /app ./
ENTRYPOINT ["dotnet", "aspnetapp.dll"]
